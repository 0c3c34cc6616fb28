//! Looks at the core twice a second: publishes why there is no block, and tells the log while nothing becomes final.

use crate::metrics::Metrics;
use aitbc_core::consensus::Core;
use aitbc_core::consensus::doctor::{Cause, Condition, Report};
use aitbc_core::consensus::input::Now;
use std::sync::Arc;
use tokio::sync::watch;
use tracing::{info, warn};

/// Pause between two looks: what a reader gets is at most this much older than the loop's last turn.
const LOOK_EVERY_MS: u64 = 500;
/// Pause between two lines of one stall.
const WARN_EVERY_MS: u64 = 5_000;

/// A report and when it was made.
#[derive(Debug, Default)]
pub struct Examined {
    /// What the core says.
    pub report: Report,
    /// Milliseconds since the start of the process ([`crate::pulse::Pulse::mono_ms`]).
    pub at_ms: u64,
}

/// What the consensus loop has for it; used by that loop only, and never waits.
pub struct Doctor {
    reports: watch::Sender<Arc<Examined>>,
    metrics: Arc<Metrics>,
    /// When to look next.
    due_ms: u64,
    stall: Option<Stall>,
}

/// A stall in progress, times in milliseconds since the start of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stall {
    since_ms: u64,
    warned_ms: u64,
    /// What was in the way when last looked at.
    cause: Cause,
    diagnosis: String,
}

/// What the log is to be told.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Stalled,
    /// It is over: how long it took, and what was in the way at last.
    Over(Stall, u64),
}

impl Doctor {
    /// A doctor and where its reports are read.
    pub fn new(metrics: Arc<Metrics>) -> (Doctor, watch::Receiver<Arc<Examined>>) {
        let (reports, readers) = watch::channel(Arc::default());
        (Doctor { reports, metrics, due_ms: 0, stall: None }, readers)
    }

    /// Looks, if it is time to.
    pub fn look(&mut self, core: &Core, now: Now) {
        if now.mono_ms < self.due_ms {
            return;
        }
        self.due_ms = now.mono_ms + LOOK_EVERY_MS;
        let report = core.report(now);
        let stalled_ms = if report.state == Condition::Stalled { report.waiting_ms } else { 0 };
        self.metrics.stalled_seconds.set((stalled_ms / 1_000) as i64);
        match self.judge(&report, now.mono_ms) {
            Told::Nothing => {}
            Told::Stalled => warn!(
                slot = report.slot,
                height = report.height,
                seconds = report.waiting_ms / 1_000,
                cause = ?report.cause,
                "nothing becomes final: {}",
                report.diagnosis
            ),
            Told::Over(stall, took_ms) => info!(
                height = report.height,
                took_ms,
                cause = ?stall.cause,
                "blocks become final again; what was missing: {}",
                stall.diagnosis
            ),
        }
        self.reports.send_replace(Arc::new(Examined { report, at_ms: now.mono_ms }));
    }

    /// At most a line every few seconds while stalled, one when it is over.
    fn judge(&mut self, report: &Report, now_ms: u64) -> Told {
        if report.state != Condition::Stalled {
            let over = self.stall.take();
            return over.map_or(Told::Nothing, |stall| {
                let took_ms = now_ms - stall.since_ms;
                Told::Over(stall, took_ms)
            });
        }
        let since_ms = now_ms.saturating_sub(report.waiting_ms);
        let due = self.stall.as_ref().is_none_or(|stall| now_ms >= stall.warned_ms + WARN_EVERY_MS);
        let warned_ms = self.stall.as_ref().filter(|_| !due).map_or(now_ms, |stall| stall.warned_ms);
        let (cause, diagnosis) = (report.cause, report.diagnosis.clone());
        self.stall = Some(Stall { since_ms, warned_ms, cause, diagnosis });
        if due { Told::Stalled } else { Told::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(state: Condition, waiting_ms: u64) -> Report {
        Report { state, waiting_ms, cause: Cause::LeaderSilent, diagnosis: "why".into(), ..Report::default() }
    }

    fn doctor() -> Doctor {
        Doctor::new(Arc::new(Metrics::new().expect("unique names"))).0
    }

    #[test]
    fn a_stall_is_told_at_once_then_every_few_seconds_and_its_end_with_how_long_it_took() {
        let mut doctor = doctor();
        assert_eq!(doctor.judge(&report(Condition::Working, 500), 10_000), Told::Nothing);
        assert_eq!(doctor.judge(&report(Condition::Stalled, 2_000), 11_500), Told::Stalled);
        let told =
            (1..=20).map(|look| doctor.judge(&report(Condition::Stalled, 2_000 + look * 500), 11_500 + look * 500));
        assert_eq!(told.filter(|told| *told == Told::Stalled).count(), 2, "in ten seconds");
        let Told::Over(stall, took_ms) = doctor.judge(&report(Condition::Idle, 0), 22_000) else {
            panic!("it is over")
        };
        assert_eq!((stall.cause, stall.diagnosis.as_str(), took_ms), (Cause::LeaderSilent, "why", 12_500));
        assert_eq!(doctor.judge(&report(Condition::Idle, 0), 22_500), Told::Nothing, "once");
    }
}
