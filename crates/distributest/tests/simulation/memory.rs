//! What must be true where memory is short: files that do not fit together do not run together, and what the kernel killed runs
//! once more with nothing beside it.

use distributest_core::outcome::Outcome;
use distributest_core::run_event::AttemptResult;

use crate::world::World;

impl World {
    /// The coordinator says that a host is given nothing else until files have run there alone.
    pub(crate) fn reserve(&mut self, host: usize) {
        self.count("hosts reserved");
        self.reserved.insert(host);
    }

    /// The kernel killed an attempt.
    pub(crate) fn out_of_memory(&mut self, number: u64) {
        self.count("attempts out of memory");
        if let Some(attempt) = self.attempts.get_mut(&number) {
            attempt.is_out_of_memory = true;
        }
    }

    /// An attempt begins on its host beside these others.
    pub(crate) fn check_memory(&mut self, number: u64, others: impl Iterator<Item = u64>) {
        let session = &self.sessions[self.attempts[&number].session];
        if self.attempts[&number].told.is_some() || session.cable.is_dropped_by_coordinator() {
            // It counts as lost, and its host has not heard of that.
            return;
        }
        let others: Vec<u64> = others.collect();
        let is_alone = self.has_to_be_alone(number);
        if let Some(attempt) = self.attempts.get_mut(&number) {
            attempt.is_alone = is_alone;
        }
        if is_alone {
            self.count("attempts alone");
        }
        if is_alone && !others.is_empty() {
            self.violation(format!("attempt {number} was to run alone, and {others:?} run beside it"));
        }
        let host = self.sessions[self.attempts[&number].session].host;
        if is_alone && !self.reserved.contains(&host) {
            self.violation(format!(
                "attempt {number} was to run alone on host {host}, which is not reserved"
            ));
        }
        let alone = others.iter().find(|other| self.attempts.get(other).is_some_and(|it| it.is_alone));
        if let Some(other) = alone {
            self.violation(format!("attempt {number} begins beside {other}, which was to run alone"));
        }
        self.check_room(number, &others);
    }

    fn check_room(&mut self, number: u64, others: &[u64]) {
        let host = self.sessions[self.attempts[&number].session].host;
        let Some(memory) = self.scenario.hosts[host].memory else { return };
        let predicted = |id: &u64| {
            let file = self.attempts.get(id).map(|attempt| attempt.file);
            file.and_then(|file| self.scenario.files[file].predicted_memory).unwrap_or_default()
        };
        let needed = predicted(&number) + others.iter().map(predicted).sum::<u64>();
        if !others.is_empty() && needed > memory {
            let together = format!("should need {needed} of {memory} with {others:?} beside it");
            self.violation(format!("attempt {number} begins on host {host}, and {together}"));
        }
    }

    /// Whether nothing but a lack of memory befell the file of an attempt, so that it is tried again for no other reason.
    fn has_to_be_alone(&self, number: u64) -> bool {
        let file = self.attempts[&number].file;
        let crashed = Some(AttemptResult::Outcome(Outcome::Crashed));
        let crashes: Vec<_> =
            self.attempts.values().filter(|other| other.file == file && other.told == crashed).collect();
        // What a fenced host failed may have been set aside, and a decided file may be asked of hosts that failed it.
        let is_plain = self.fences == 0 && !self.is_doubted(file) && !self.decided.contains(&file);
        is_plain && crashes.len() == 1 && crashes[0].is_out_of_memory
    }
}
