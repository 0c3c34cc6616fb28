//! One `aitbc-node` process: started, watched, signalled, killed; its log kept in a file.

use aitbc_core::env::name;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

/// Lines of a log that a failure shows.
const TAIL_LINES: usize = 40;

/// Where the node's binary is: `AITBC_NODE_BIN`, else beside this test's own binary in the target folder.
///
/// # Errors
/// Where there is none: says how to build it.
pub fn node_binary() -> Result<PathBuf> {
    if let Ok(path) = std::env::var("AITBC_NODE_BIN") {
        return Ok(PathBuf::from(path));
    }
    // target/<profile>/deps/localnet-… or target/<profile>/bench
    let own = std::env::current_exe().context("find the own program")?;
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join("aitbc-node")).find(|path| path.is_file());
    found.with_context(|| {
        format!(
            "no aitbc-node near {}: \"cargo build -p aitbc-node\" with the same profile, or set AITBC_NODE_BIN",
            own.display()
        )
    })
}

/// A process of the node's binary, with a log file that starts after starts append to.
pub struct NodeProcess {
    name: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    log: PathBuf,
    child: Option<Child>,
    started: Instant,
}

impl NodeProcess {
    /// Describes a process; [`NodeProcess::start`] starts it.
    pub fn new(name: impl Into<String>, arguments: &[&str], log: PathBuf) -> NodeProcess {
        NodeProcess {
            name: name.into(),
            arguments: arguments.iter().map(|a| (*a).to_owned()).collect(),
            environment: Vec::new(),
            log,
            child: None,
            started: Instant::now(),
        }
    }

    /// Sets an environment variable for the next start.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.environment.retain(|(n, _)| n != name);
        self.environment.push((name.into(), value.into()));
    }

    /// Starts it.
    ///
    /// # Errors
    /// Where it runs already or cannot be started.
    pub fn start(&mut self) -> Result<()> {
        if self.child.is_some() {
            bail!("{} runs already", self.name);
        }
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let program = node_binary()?;
        let mut command = Command::new(&program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        // What the caller's shell holds must not configure the node: only what the test says. But it may ask for a louder log.
        for name in name::ALL.into_iter().filter(|name| *name != name::LOG_LEVEL) {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().map(|(n, v)| (n, v)));
        self.child = Some(command.spawn().with_context(|| format!("start {}", program.display()))?);
        self.started = Instant::now();
        Ok(())
    }

    /// Process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// When it was started last.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().and_then(|pid| Pid::from_raw(pid as i32));
        let pid = pid.with_context(|| format!("{} does not run", self.name))?;
        kill_process(pid, signal).with_context(|| format!("signal {}", self.name))
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// Where it does not run.
    pub async fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.exit(Duration::from_secs(5)).await.map(|_| ())
    }

    /// SIGTERM, and waits until it is gone; returns how long that took.
    ///
    /// # Errors
    /// Where it does not stop within `limit`, or with another code than 0.
    pub async fn terminate(&mut self, limit: Duration) -> Result<Duration> {
        self.stop_by(Signal::TERM, limit).await
    }

    /// As [`NodeProcess::terminate`], by another signal.
    ///
    /// # Errors
    /// As [`NodeProcess::terminate`].
    pub async fn stop_by(&mut self, signal: Signal, limit: Duration) -> Result<Duration> {
        let start = Instant::now();
        self.signal(signal)?;
        let status = self.exit(limit).await?;
        if !status.success() {
            bail!("{} stopped with {status}, not 0\n{}", self.name, self.tail());
        }
        Ok(start.elapsed())
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// Where it runs on after `limit`, or did not run.
    pub async fn exit(&mut self, limit: Duration) -> Result<ExitStatus> {
        let child = self.child.as_mut().with_context(|| format!("{} does not run", self.name))?;
        let Ok(status) = tokio::time::timeout(limit, child.wait()).await else {
            bail!("{} runs on after {limit:?}\n{}", self.name, self.tail());
        };
        self.child = None;
        Ok(status?)
    }

    /// How it ended, if it did by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        Some(status)
    }

    /// Log file.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// All of the log.
    pub fn log_text(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// End of the log, for failures.
    pub fn tail(&self) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(TAIL_LINES);
        format!("--- {} ({})\n{}", self.name, self.log.display(), lines[from..].join("\n"))
    }
}
