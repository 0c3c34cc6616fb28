//! Counters of the operator itself, in Prometheus' text format.

use crate::crd::status::{BlockchainNetworkStatus, ValidatorState};
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// All of them.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    /// Visits to networks.
    pub reconciles: IntCounter,
    /// Visits that failed, by the step that failed, and those with a volume that cannot grow.
    pub errors: IntCounterVec,
    /// How long visits took.
    pub duration: Histogram,
    /// Pods deleted by the planner.
    pub disruptions: IntCounter,
    /// Whether this process leads.
    pub leader: IntGauge,
    conditions: IntGaugeVec,
    height: IntGaugeVec,
    validators: IntGaugeVec,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// Where two have the same name: a mistake in this file.
    pub fn new() -> Result<Self, prometheus::Error> {
        let buckets = vec![0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
        let duration =
            HistogramOpts::new("aitbc_operator_reconcile_duration_seconds", "Duration of visits to networks.");
        let network = ["namespace", "name"];
        let metrics = Metrics {
            registry: Registry::new(),
            reconciles: IntCounter::new("aitbc_operator_reconciles_total", "Visits to networks.")?,
            errors: IntCounterVec::new(
                Opts::new("aitbc_operator_reconcile_errors_total", "Visits that failed, by reason."),
                &["reason"],
            )?,
            duration: Histogram::with_opts(duration.buckets(buckets))?,
            disruptions: IntCounter::new("aitbc_operator_pods_replaced_total", "Pods deleted by the planner.")?,
            leader: IntGauge::new("aitbc_operator_leader", "1 while this process leads.")?,
            conditions: IntGaugeVec::new(
                Opts::new("aitbc_operator_network_condition", "Conditions: 1 True, 0 False, -1 Unknown."),
                &["namespace", "name", "condition"],
            )?,
            height: IntGaugeVec::new(Opts::new("aitbc_operator_network_height", "Height of the chain."), &network)?,
            validators: IntGaugeVec::new(
                Opts::new(
                    "aitbc_operator_network_validators",
                    "Validators of a network, and others on its chain, by state.",
                ),
                &["namespace", "name", "state"],
            )?,
        };
        metrics.register()?;
        Ok(metrics)
    }

    fn register(&self) -> Result<(), prometheus::Error> {
        let Metrics { registry, reconciles, errors, duration, disruptions, leader, conditions, height, validators } =
            self;
        registry.register(Box::new(reconciles.clone()))?;
        registry.register(Box::new(errors.clone()))?;
        registry.register(Box::new(duration.clone()))?;
        registry.register(Box::new(disruptions.clone()))?;
        registry.register(Box::new(leader.clone()))?;
        registry.register(Box::new(conditions.clone()))?;
        registry.register(Box::new(height.clone()))?;
        registry.register(Box::new(validators.clone()))
    }

    /// Shows a network's status.
    pub fn show(&self, namespace: &str, name: &str, status: &BlockchainNetworkStatus) {
        for condition in &status.conditions {
            let value = match condition.status.as_str() {
                "True" => 1,
                "False" => 0,
                _ => -1,
            };
            self.conditions.with_label_values(&[namespace, name, &condition.type_]).set(value);
        }
        let height = status.chain.as_ref().and_then(|chain| chain.height).unwrap_or(0);
        self.height.with_label_values(&[namespace, name]).set(height);
        let own = status.validator_statuses.iter().map(|validator| validator.state);
        let states: Vec<ValidatorState> = own.chain(status.other_validators.iter().map(|other| other.state)).collect();
        for state in ValidatorState::ALL {
            let count = states.iter().filter(|found| **found == state).count();
            let gauge = self.validators.with_label_values(&[namespace, name, &format!("{state:?}")]);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Forgets a network that is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        for condition in crate::status::conditions::NAMES {
            // Absent where it was never shown.
            let _ = self.conditions.remove_label_values(&[namespace, name, condition]);
        }
        let _ = self.height.remove_label_values(&[namespace, name]);
        for state in ValidatorState::ALL {
            let _ = self.validators.remove_label_values(&[namespace, name, &format!("{state:?}")]);
        }
    }

    /// All of them as text.
    pub fn text(&self) -> String {
        let mut out = Vec::new();
        match TextEncoder::new().encode(&self.registry.gather(), &mut out) {
            Ok(()) => String::from_utf8(out).unwrap_or_default(),
            Err(error) => format!("# {error}\n"),
        }
    }
}
