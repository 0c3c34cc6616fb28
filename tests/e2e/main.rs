//! The product as a user has it: chart, custom resource, pods, Postgres, DNS, Prometheus, in a real cluster (KUBECONFIG).

/// A transfer through the RPC Service; what psql shows; a second apply.
mod first_network;
/// Authorities and stake: who comes in, signs twice, is slashed and jailed.
mod hybrid;
/// Deleted and applied again.
mod lifecycle;
/// The network that the tests share, and how to look at it.
mod network;
/// Pods, containers and databases killed.
mod outages;
/// Changed specs reach the pods one at a time.
mod rollout;
/// Metrics all the way to Prometheus.
mod scraping;
