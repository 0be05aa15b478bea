//! Failures as data for the wire: what was attempted, on what, why it failed and what to do.

use std::error::Error;

use distributest_protocol::wire;

/// A failure in the making.
pub(crate) struct Failure(wire::Failure);

impl Failure {
    /// Something about the host: a full disk, a missing program.
    pub(crate) fn host(operation: &str, subject: impl Into<String>) -> Self {
        Failure::new(operation, subject.into(), wire::Fault::Host)
    }

    /// Something in what the user set up: a hook that fails, a wrong command.
    pub(crate) fn configuration(operation: &str, subject: impl Into<String>) -> Self {
        Failure::new(operation, subject.into(), wire::Fault::Configuration)
    }

    /// Something only the product can be to blame for.
    pub(crate) fn internal(operation: &str, subject: impl Into<String>) -> Self {
        Failure::new(operation, subject.into(), wire::Fault::Internal)
    }

    fn new(operation: &str, subject: String, fault: wire::Fault) -> Self {
        Failure(wire::Failure {
            operation: operation.to_owned(),
            subject,
            fault: fault.into(),
            ..Default::default()
        })
    }

    /// Says why.
    pub(crate) fn because(mut self, cause: impl Into<String>) -> Self {
        self.0.cause = cause.into();
        self
    }

    /// Says what the user can do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = hint.into();
        self
    }
}

impl From<Failure> for wire::Failure {
    fn from(failure: Failure) -> Self {
        failure.0
    }
}

/// An error and everything below it, as one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    line
}
