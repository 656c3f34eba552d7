//! What this door counts about itself. The rest of `/metrics` is read from the node when somebody asks.

use std::{
    collections::BTreeMap,
    sync::{
        RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Upper bounds of the latency histogram, in microseconds: from a read in memory to an election.
const BOUNDS_US: [u64; 10] = [250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000, 1_000_000, 10_000_000];

#[derive(Default)]
pub struct Metrics {
    // Written once for each pair of route and status; read for each request, for moments.
    routes: RwLock<BTreeMap<String, BTreeMap<u16, Answered>>>,
    /// Of them, those that came past hyper.
    plain: AtomicU64,
}

/// Requests of one route with one status.
#[derive(Default)]
struct Answered {
    total: AtomicU64,
    microseconds: AtomicU64,
    buckets: [AtomicU64; BOUNDS_US.len()],
}

impl Metrics {
    pub fn answered_plain(&self, route: &str, status: u16, took: Duration) {
        self.plain.fetch_add(1, Ordering::Relaxed);
        self.answered(route, status, took);
    }

    pub fn answered(&self, route: &str, status: u16, took: Duration) {
        if !self.add(route, status, took) {
            let mut routes = self.routes.write().expect("nothing panics under this lock");
            routes.entry(route.to_owned()).or_default().entry(status).or_default().add(took);
        }
    }

    /// False where it is the first of its kind.
    fn add(&self, route: &str, status: u16, took: Duration) -> bool {
        let routes = self.routes.read().expect("nothing panics under this lock");
        let known = routes.get(route).and_then(|statuses| statuses.get(&status));
        known.map(|answered| answered.add(took)).is_some()
    }

    /// In the text format of Prometheus.
    pub fn write(&self, text: &mut Text) {
        let routes = self.routes.read().expect("nothing panics under this lock");
        text.family("raftq_http_requests_total", "counter", "requests answered, by route and status");
        let each =
            || routes.iter().flat_map(|(route, of)| of.iter().map(move |(status, counted)| (route, status, counted)));
        for (route, status, counted) in each() {
            let labels = format!("route=\"{route}\",status=\"{status}\"");
            text.sample("raftq_http_requests_total", &labels, counted.total.load(Ordering::Relaxed) as f64);
        }
        let plain = self.plain.load(Ordering::Relaxed) as f64;
        text.single("raftq_http_plain_requests_total", "counter", "of them, those of the plainest form", plain);
        text.family("raftq_http_request_seconds", "histogram", "time to answer, by route and status");
        for (route, status, counted) in each() {
            counted.write(text, &format!("route=\"{route}\",status=\"{status}\""));
        }
    }
}

impl Answered {
    fn add(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.total.fetch_add(1, Ordering::Relaxed);
        self.microseconds.fetch_add(took, Ordering::Relaxed);
        if let Some(bucket) = BOUNDS_US.iter().position(|bound| took <= *bound) {
            self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn write(&self, text: &mut Text, labels: &str) {
        let mut below = 0;
        for (bound, bucket) in BOUNDS_US.iter().zip(&self.buckets) {
            below += bucket.load(Ordering::Relaxed);
            let labels = format!("{labels},le=\"{}\"", *bound as f64 / 1e6);
            text.sample("raftq_http_request_seconds_bucket", &labels, below as f64);
        }
        let total = self.total.load(Ordering::Relaxed) as f64;
        text.sample("raftq_http_request_seconds_bucket", &format!("{labels},le=\"+Inf\""), total);
        text.sample("raftq_http_request_seconds_sum", labels, self.microseconds.load(Ordering::Relaxed) as f64 / 1e6);
        text.sample("raftq_http_request_seconds_count", labels, total);
    }
}

/// The exposition format: families of samples.
#[derive(Default)]
pub struct Text(String);

impl Text {
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.0.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// `labels` as written between the braces; empty for none.
    pub fn sample(&mut self, name: &str, labels: &str, value: f64) {
        match labels {
            "" => self.0.push_str(&format!("{name} {value}\n")),
            labels => self.0.push_str(&format!("{name}{{{labels}}} {value}\n")),
        }
    }

    /// A label whose value a user chose.
    pub fn label(name: &str, value: &str) -> String {
        format!("{name}=\"{}\"", value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n"))
    }

    /// A family of one sample without labels.
    pub fn single(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.family(name, kind, help);
        self.sample(name, "", value);
    }

    pub fn into_string(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_cannot_end_before_its_end() {
        assert_eq!(Text::label("schedule", "a\"b\\c"), r#"schedule="a\"b\\c""#);
    }

    #[test]
    fn requests_are_counted_by_route_and_status() {
        let metrics = Metrics::default();
        metrics.answered("/v1/jobs", 200, Duration::from_micros(300));
        metrics.answered("/v1/jobs", 200, Duration::from_micros(700));
        let mut text = Text::default();
        metrics.write(&mut text);
        let text = text.into_string();
        assert!(text.contains("raftq_http_requests_total{route=\"/v1/jobs\",status=\"200\"} 2\n"), "{text}");
        assert!(text.contains("le=\"0.0005\"} 1\n") && text.contains("le=\"0.001\"} 2\n"), "{text}");
    }
}
