//! Scopes: what a credential may do at most.
use super::Action;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;

/// A set of actions, or all that the principal may do. One word of sixteen bytes: half a million keys hold one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ScopeSet(u128);

/// No action has this bit: there are fewer than 127.
const ADMIN: u128 = 1 << 127;

impl ScopeSet {
    /// What a key gets when its issuer names no scope.
    pub const DEFAULT: [&'static str; 2] = ["inference:invoke", "models:read"];

    /// `resource:verb`, `resource:*`, `admin`, or `inference` in its old spelling. `Err` names the first unknown.
    pub fn parse<'s>(names: impl IntoIterator<Item = &'s str>) -> Result<Self, &'s str> {
        let mut set = Self::default();
        for name in names {
            match name.strip_suffix(":*") {
                _ if name == "admin" => set.0 |= ADMIN,
                _ if name == "inference" => set.insert(Action::InferenceInvoke),
                Some(resource) => {
                    let belongs = |action: &&Action| action.as_str().split(':').next() == Some(resource);
                    let family: Self = Action::ALL.iter().filter(belongs).copied().collect();
                    if family == Self::default() {
                        return Err(name);
                    }
                    set.0 |= family.0;
                }
                None => set.insert(Action::parse(name).ok_or(name)?),
            }
        }
        Ok(set)
    }

    /// Everything its principal may do.
    pub fn is_admin(self) -> bool {
        self.0 & ADMIN != 0
    }

    /// Is the action within the ceiling?
    pub fn covers(self, action: Action) -> bool {
        self.0 & (ADMIN | bit(action)) != 0
    }

    /// Adds an action.
    pub fn insert(&mut self, action: Action) {
        self.0 |= bit(action);
    }

    /// What is in either.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The actions that both allow.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Action::ALL.iter().copied().filter(|action| self.covers(*action) && other.covers(*action)).collect()
    }

    /// Does the other allow all that this allows?
    pub fn is_within(self, other: Self) -> bool {
        other.is_admin() || !self.is_admin() && self.0 & !other.0 == 0
    }

    /// Every name in it, for storage and answers.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let admin = self.is_admin().then_some("admin");
        let named = Action::ALL.iter().filter(move |action| self.0 & bit(**action) != 0);
        admin.into_iter().chain(named.map(|action| action.as_str()))
    }
}

const fn bit(action: Action) -> u128 {
    // The discriminants count up from zero.
    1 << (action as u32)
}

impl FromIterator<Action> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Action>>(actions: I) -> Self {
        let mut set = Self::default();
        actions.into_iter().for_each(|action| set.insert(action));
        set
    }
}

impl Serialize for ScopeSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names())
    }
}

impl<'de> Deserialize<'de> for ScopeSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<Cow<'de, str>>::deserialize(deserializer)?;
        // A scope of a newer release covers nothing here.
        let known = names.iter().map(AsRef::as_ref).filter(|name| Self::parse([*name]).is_ok());
        Ok(Self::parse(known).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_names_families_and_admin() {
        let set = ScopeSet::parse(["keys:*", "inference"]).unwrap();
        assert!(set.covers(Action::KeysIssue) && set.covers(Action::InferenceInvoke));
        assert!(!set.covers(Action::OrgsRead) && !set.is_admin());
        assert!(ScopeSet::parse(["admin"]).unwrap().covers(Action::OrgsDelete));
        for unknown in ["*", "", "keys", "keys:fly", ":*", "cake:*"] {
            assert_eq!(ScopeSet::parse([unknown]), Err(unknown));
        }
    }

    #[test]
    fn a_ceiling_holds_what_is_below_it() {
        let set = |names: &[&'static str]| ScopeSet::parse(names.iter().copied()).unwrap();
        assert!(set(&["keys:read"]).is_within(set(&["keys:*"])));
        assert!(!set(&["keys:*"]).is_within(set(&["keys:read"])));
        assert!(set(&["keys:*", "admin"]).is_within(set(&["admin"])));
        assert!(!set(&["admin"]).is_within(set(&["keys:*", "orgs:*"])));
        assert_eq!(set(&["admin"]).intersection(set(&["keys:read"])), set(&["keys:read"]));
    }

    #[test]
    fn the_bits_suffice() {
        assert!(Action::ALL.len() < 127);
    }
}
