//! How often things may be asked for.
use crate::platform::cache::Rate;
use schemars::JsonSchema;
use serde::Deserialize;

/// More than this is no limit.
const LIMIT_MAX: u32 = 1_000_000;

/// A limit for each class of routes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub sign_in: ClassLimits,
    pub recovery: ClassLimits,
    pub invites: ClassLimits,
    pub key_issue: ClassLimits,
    pub exports: ClassLimits,
    pub reads: ClassLimits,
    pub writes: ClassLimits,
    pub checks: ClassLimits,
}

/// By whom requests of one class are counted.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassLimits {
    #[schemars(with = "String")]
    pub network: Limit,
    #[schemars(with = "String")]
    pub principal: Limit,
    #[schemars(with = "String")]
    pub key: Limit,
    #[schemars(with = "String")]
    pub org: Limit,
}

/// So many at once, and so many a minute over time: `60, 10/min`; or `off`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Limit(pub Option<Rate>);

/// What is no limit.
#[derive(Debug, thiserror::Error)]
#[error("expected off, or how many at once and how many a minute, each 1 to 1000000: \"60, 10/min\"")]
pub struct NoLimit;

impl TryFrom<String> for Limit {
    type Error = NoLimit;

    fn try_from(text: String) -> Result<Self, NoLimit> {
        if text == "off" {
            return Ok(Self(None));
        }
        let (burst, rest) = text.split_once(',').ok_or(NoLimit)?;
        let per_minute = rest.trim().strip_suffix("/min").ok_or(NoLimit)?;
        let number = |text: &str| text.trim().parse().ok().filter(|number| (1..=LIMIT_MAX).contains(number));
        match (number(burst), number(per_minute)) {
            (Some(burst), Some(per_minute)) => Ok(Self(Some(Rate::per_minute(burst, per_minute)))),
            _ => Err(NoLimit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_off_or_two_numbers() {
        let limit = |text: &str| Limit::try_from(text.to_owned()).ok().map(|limit| limit.0);
        assert_eq!(limit("off"), Some(None));
        assert_eq!(limit("60, 10/min"), Some(Some(Rate::per_minute(60, 10))));
        assert_eq!(limit("60,10/min"), limit("60, 10/min"));
        for wrong in
            ["", "60", "60, 10", "0, 10/min", "60, 0/min", "1000001, 1/min", "-1, 1/min", "1, 1/s", "OFF"]
        {
            assert_eq!(limit(wrong), None, "{wrong}");
        }
    }
}
