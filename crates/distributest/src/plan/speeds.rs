//! How fast hosts are beside one another, as the history tells.

use std::collections::HashMap;

use distributest_core::host_speed::{TimedAttempt, host_speeds};
use distributest_history::RecordedAttempt;

/// The speeds of the hosts that ran the project's files lately, by their names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostSpeeds {
    speeds: HashMap<String, f64>,
}

impl FromIterator<(String, f64)> for HostSpeeds {
    fn from_iter<Known: IntoIterator<Item = (String, f64)>>(known: Known) -> HostSpeeds {
        HostSpeeds { speeds: known.into_iter().collect() }
    }
}

impl HostSpeeds {
    /// Learns from the recent attempts at each file.
    pub fn learn(past: &HashMap<String, Vec<RecordedAttempt>>) -> HostSpeeds {
        let mut names: Vec<&str> = past.values().flatten().map(|attempt| &*attempt.host).collect();
        names.sort_unstable();
        names.dedup();
        if names.len() < 2 {
            return HostSpeeds::default();
        }
        let timed = |attempt: &RecordedAttempt| {
            let host = names.binary_search(&&*attempt.host).ok()?;
            Some(TimedAttempt { host, duration: attempt.duration })
        };
        let files: Vec<Vec<TimedAttempt>> =
            past.values().map(|attempts| attempts.iter().filter_map(timed).collect()).collect();
        let speeds = host_speeds(files.iter().map(Vec::as_slice), names.len());
        names.iter().map(|name| (*name).to_owned()).zip(speeds).collect()
    }

    /// The speed of a host, by its name in the configuration: 1 is the reference, 2 twice as fast. A host that nothing is known of has 1.
    pub fn of(&self, host: &str) -> f64 {
        self.speeds.get(host).copied().unwrap_or(1.0)
    }
}
