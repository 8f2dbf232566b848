//! How a command ended, for scripts.
use std::process::ExitCode;

pub(super) const HELP: &str = "\
Exit codes: 0 it went well; 1 it did not; 2 the command line is wrong; 3 not permitted; 4 not found; 5 conflict;
6 a difference was found; 7 timeout; 8 not verified; 9 a check failed.";

/// The exit code of the process. The numbers are API: never change one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// It went well.
    Ok,
    /// It did not; standard error says why.
    Failure,
    /// The command line is wrong.
    Usage,
    /// Not permitted.
    Denied,
    /// What it is about does not exist.
    NotFound,
    /// Something else is there, or was faster.
    Conflict,
    /// A comparison found a difference.
    Difference,
    /// It took too long.
    Timeout,
    /// A signature, a chain or a proof does not hold.
    Unverified,
    /// `doctor` found something that does not work.
    Unwell,
}

impl Exit {
    /// What an error means for the exit code: `Failure`, unless a `Stop` in its chain says more.
    pub(super) fn of(error: &anyhow::Error) -> Self {
        error.downcast_ref::<Stop>().map_or(Self::Failure, |stop| stop.exit)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::Failure => 1,
            Exit::Usage => 2,
            Exit::Denied => 3,
            Exit::NotFound => 4,
            Exit::Conflict => 5,
            Exit::Difference => 6,
            Exit::Timeout => 7,
            Exit::Unverified => 8,
            Exit::Unwell => 9,
        })
    }
}

/// An end with an exit code of its own, and what the person at the terminal should know.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Stop {
    exit: Exit,
    message: String,
}

impl Stop {
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn an_error_is_a_failure_unless_it_says_more() {
        assert_eq!(Exit::of(&anyhow::anyhow!("whatever")), Exit::Failure);
        let stop = Stop::new(Exit::Conflict, "taken");
        let told = Err::<(), _>(stop).context("while making the org").unwrap_err();
        assert_eq!(Exit::of(&told), Exit::Conflict);
        assert_eq!(format!("{told:#}"), "while making the org: taken");
    }
}
