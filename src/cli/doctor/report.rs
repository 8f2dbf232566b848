//! What the doctor has found, for people and for programs.
use serde::Serialize;
use serde_json::json;
use std::fmt::Write as _;

/// One thing that is looked at.
#[derive(Clone, Copy)]
pub(super) struct Subject {
    /// API: never rename one.
    pub(super) name: &'static str,
    /// What does not work without it.
    pub(super) why: &'static str,
}

/// What was found. The names are API.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Skipped,
    Ok,
    Warning,
    Failed,
}

#[derive(Serialize)]
pub(super) struct Check {
    name: &'static str,
    status: Status,
    found: String,
    why: &'static str,
    fix: Option<String>,
}

impl Subject {
    pub(super) fn ok(self, found: impl Into<String>) -> Check {
        self.check(Status::Ok, found, None)
    }

    /// It works, and somebody should look at it.
    pub(super) fn warning(self, found: impl Into<String>, fix: impl Into<String>) -> Check {
        self.check(Status::Warning, found, Some(fix.into()))
    }

    pub(super) fn failed(self, found: impl Into<String>, fix: impl Into<String>) -> Check {
        self.check(Status::Failed, found, Some(fix.into()))
    }

    /// Nobody knows; `because` of this.
    pub(super) fn skipped(self, because: impl Into<String>) -> Check {
        self.check(Status::Skipped, because, None)
    }

    /// The same, and how somebody who may can find out.
    pub(super) fn left_to(self, because: impl Into<String>, fix: impl Into<String>) -> Check {
        self.check(Status::Skipped, because, Some(fix.into()))
    }

    fn check(self, status: Status, found: impl Into<String>, fix: Option<String>) -> Check {
        Check { name: self.name, status, found: found.into(), why: self.why, fix }
    }
}

/// Every check, in the order in which they are read.
pub(super) struct Report {
    pub(super) checks: Vec<Check>,
}

impl Report {
    pub(super) fn failed(&self) -> bool {
        self.worst() == Status::Failed
    }

    fn worst(&self) -> Status {
        self.checks.iter().map(|check| check.status).max().unwrap_or(Status::Ok).max(Status::Ok)
    }

    /// One line for what is well, more for what is not.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for Check { name, status, found, why, fix } in &self.checks {
            let status = match status {
                Status::Ok => "ok",
                Status::Warning => "warning",
                Status::Failed => "failed",
                Status::Skipped => "skipped",
            };
            let found = found.replace('\n', &format!("\n{:31}", ""));
            let _ = writeln!(text, "{status:<8} {name:<22}{found}");
            if let Some(fix) = fix {
                let _ = writeln!(text, "{:9}why: {why}\n{:9}fix: {fix}", "", "");
            }
        }
        text
    }

    pub(super) fn json(&self) -> serde_json::Value {
        json!({ "version": env!("CARGO_PKG_VERSION"), "status": self.worst(), "checks": self.checks })
    }

    pub(super) fn summary(&self) -> String {
        let count = |status| self.checks.iter().filter(|check| check.status == status).count();
        let [ok, warnings, failed, skipped] =
            [Status::Ok, Status::Warning, Status::Failed, Status::Skipped].map(count);
        format!("{ok} ok, {warnings} warning, {failed} failed, {skipped} skipped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Subject = Subject { name: "redis", why: "it is fast" };

    #[test]
    fn what_is_well_takes_a_line_and_what_is_not_takes_three() {
        let report = Report {
            checks: vec![ONE.ok("7.4"), ONE.failed("gone\nfar", "fetch it"), ONE.skipped("nobody asked")],
        };
        assert_eq!(
            report.text(),
            "ok       redis                 7.4\n\
             failed   redis                 gone\n                               far\n\
             \u{20}        why: it is fast\n         fix: fetch it\n\
             skipped  redis                 nobody asked\n"
        );
        assert_eq!(report.summary(), "1 ok, 0 warning, 1 failed, 1 skipped");
        assert!(report.failed());
    }

    #[test]
    fn a_warning_and_what_was_skipped_are_no_failure() {
        let report = |checks| Report { checks };
        assert!(!report(vec![ONE.warning("slow", "wait"), ONE.skipped("away")]).failed());
        assert_eq!(report(vec![ONE.skipped("away")]).json()["status"], "ok");
        let told = report(vec![ONE.ok("7.4"), ONE.warning("slow", "wait")]).json();
        assert_eq!(told["status"], "warning");
        let check = json!({ "name": "redis", "status": "warning", "found": "slow", "why": "it is fast", "fix": "wait" });
        assert_eq!((&told["checks"][1], &told["checks"][0]["fix"]), (&check, &json!(null)));
    }
}
