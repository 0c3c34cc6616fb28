//! Memory, files, threads and processor time of processes, from /proc.

use std::collections::BTreeMap;
use std::fs;

/// Ticks of /proc/*/stat a second: USER_HZ, the same on every Linux.
const TICKS: f64 = 100.0;

/// Resident memory in bytes; `None`: no such process.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1_024)
}

/// Open file descriptors, sockets among them; `None`: no such process.
pub fn open_files(pid: u32) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count())
}

/// Threads; `None`: no such process.
pub fn threads(pid: u32) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{pid}/task")).ok()?.count())
}

/// Seconds of processor time of a process by thread name, threads that ended not counted.
pub fn cpu_by_thread(pid: u32) -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return all };
    for task in tasks.flatten() {
        let path = task.path();
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
        let seconds = fs::read_to_string(path.join("stat")).ok().and_then(|stat| cpu_of_stat(&stat)).unwrap_or(0.0);
        *all.entry(name.trim().to_owned()).or_insert(0.0) += seconds;
    }
    all
}

/// Seconds of processor time of a process and of everything below it that it has not waited for, with what it has.
pub fn cpu_of_tree(root: u32) -> f64 {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let Ok(processes) = fs::read_dir("/proc") else { return 0.0 };
    for pid in processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        let parent = fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|stat| field(&stat, 4));
        if let Some(parent) = parent {
            children.entry(parent as u32).or_default().push(pid);
        }
    }
    let (mut total, mut waiting) = (0.0, vec![root]);
    while let Some(pid) = waiting.pop() {
        if let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) {
            total += cpu_of_stat(&stat).unwrap_or(0.0);
            // Ended children that were waited for, such as closed connections.
            total += (field(&stat, 16).unwrap_or(0.0) + field(&stat, 17).unwrap_or(0.0)) / TICKS;
        }
        waiting.extend(children.remove(&pid).unwrap_or_default());
    }
    total
}

/// Seconds of processor time of the whole machine, all cores: busy, and all.
pub fn machine_cpu() -> (f64, f64) {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: Vec<f64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|text| text.parse().ok())
        .collect();
    let all: f64 = ticks.iter().sum();
    let idle = ticks.get(3).unwrap_or(&0.0) + ticks.get(4).unwrap_or(&0.0);
    ((all - idle) / TICKS, all / TICKS)
}

fn cpu_of_stat(stat: &str) -> Option<f64> {
    Some((field(stat, 14)? + field(stat, 15)?) / TICKS)
}

/// Field of a /proc/*/stat line, counted from 1 as proc(5) does. The name in brackets may hold anything.
fn field(stat: &str, number: usize) -> Option<f64> {
    let after = &stat[stat.rfind(')')? + 1..];
    after.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_spaces_and_brackets_shifts_no_field() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 0 0 0 0 0 250 50 3 4";
        assert_eq!((field(stat, 4), cpu_of_stat(stat)), (Some(1.0), Some(3.0)));
    }

    #[test]
    fn this_process_has_memory_and_threads() {
        let own = std::process::id();
        assert!(resident_bytes(own).is_some_and(|bytes| bytes > 1 << 20));
        assert!(!cpu_by_thread(own).is_empty());
        assert!(open_files(own).is_some_and(|files| files > 0) && threads(own).is_some_and(|threads| threads > 0));
    }
}
