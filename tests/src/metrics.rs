//! Prometheus text as a scraper reads it.

use std::collections::BTreeMap;

/// Values of one scrape, by series.
#[derive(Clone, Debug, Default)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Reads the text exposition format.
    pub fn parse(text: &str) -> Metrics {
        let series = text.lines().filter(|line| !line.starts_with('#'));
        Metrics(
            series
                .filter_map(|line| line.rsplit_once(' '))
                .filter_map(|(s, v)| Some((s.into(), v.parse().ok()?)))
                .collect(),
        )
    }

    /// Sum over all series of a metric.
    pub fn sum(&self, name: &str) -> f64 {
        self.value(name, "")
    }

    /// Sum over the series of a metric whose labels contain `label`.
    pub fn value(&self, name: &str, label: &str) -> f64 {
        let of_name =
            |series: &str| series.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'));
        self.0.iter().filter(|(series, _)| of_name(series) && series.contains(label)).map(|(_, value)| value).sum()
    }

    /// Whether the metric is there.
    pub fn has(&self, name: &str) -> bool {
        self.0.keys().any(|series| series == name || series.starts_with(&format!("{name}{{")))
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn series_are_summed_by_name_and_label() {
        let metrics = Metrics::parse("# TYPE a counter\na{k=\"x\"} 1\na{k=\"y\"} 2\nab 4\n");
        assert_eq!((metrics.sum("a"), metrics.value("a", "k=\"y\""), metrics.sum("ab")), (3.0, 2.0, 4.0));
        assert!(metrics.has("ab") && !metrics.has("b"));
    }
}
