//! One question of the abstraction, made real: two nodes and a call.
use super::dimension::{ALL, BOOTSTRAP, Dimension, NO, NOBODY, OVER, OWN, PRINCIPAL, TO_COME, YES};
use crate::{
    authorization::{
        Action, PlatformRole, Role,
        engine::Call,
        grounds::{Node, OrgState},
    },
    kernel::{Id, OrgId, OrgStatus, UserId},
};
use chrono::DateTime;
use std::{collections::BTreeMap, fmt};
use uuid::Uuid;

const ORG: OrgId = Id::from_uuid(Uuid::from_u128(1));
const OTHER_ORG: OrgId = Id::from_uuid(Uuid::from_u128(2));
const SELF: UserId = Id::from_uuid(Uuid::from_u128(3));
const OTHER: UserId = Id::from_uuid(Uuid::from_u128(4));
const NOW_S: i64 = 1_800_000_000;

/// Every type that can ask or be asked about.
const KINDS: [&str; 10] = [
    "Account",
    "Anonymous",
    "ApiKey",
    "Model",
    "Organization",
    "Person",
    "Platform",
    "ServiceAccount",
    "User",
    "Workload",
];

/// Who asks what of what, by type.
#[derive(Clone, Copy, Debug)]
pub(in crate::authorization) struct Question {
    pub(in crate::authorization) principal: &'static str,
    pub(in crate::authorization) action: Action,
    pub(in crate::authorization) resource: &'static str,
}

impl Question {
    /// `None`: there is a type that nobody here knows how to make.
    pub(in crate::authorization) fn of(principal: &str, action: Action, resource: &str) -> Option<Self> {
        let known = |name: &str| KINDS.iter().copied().find(|kind| *kind == name);
        Some(Self { principal: known(principal)?, action, resource: known(resource)? })
    }
}

/// What differs from the usual.
#[derive(Clone, Debug)]
pub(in crate::authorization) struct Point {
    pub(in crate::authorization) question: Question,
    pub(in crate::authorization) values: BTreeMap<Dimension, &'static str>,
}

impl Point {
    pub(in crate::authorization) fn usual(question: Question) -> Self {
        Self { question, values: BTreeMap::new() }
    }

    pub(in crate::authorization) fn words(&self, dimension: Dimension) -> Vec<&'static str> {
        dimension.words(self.question.principal, self.question.resource)
    }

    pub(in crate::authorization) fn value(&self, dimension: Dimension) -> &'static str {
        let set = self.values.get(&dimension).copied();
        set.or_else(|| self.words(dimension).first().copied()).unwrap_or("-")
    }

    fn is(&self, dimension: Dimension) -> bool {
        self.value(dimension) == YES
    }

    pub(in crate::authorization) fn principal(&self) -> Node {
        let kind = self.question.principal;
        let state = (ORG, self.org_status(Dimension::PrincipalOrgStatus));
        let mut node = match kind {
            "User" | "ServiceAccount" => Node {
                org: Some(state),
                status: Some(self.value(Dimension::PrincipalStatus)),
                ..Node::plain(kind, SELF)
            },
            "Workload" => Node {
                org: (self.value(Dimension::PrincipalName) == BOOTSTRAP && self.is(Dimension::PrincipalOrg))
                    .then_some(state),
                ..Node::plain(kind, self.value(Dimension::PrincipalName))
            },
            _ => Node::plain(kind, SELF),
        };
        node.mfa_due_at_s = match self.value(Dimension::MfaDue) {
            OVER => Some(NOW_S - 1),
            TO_COME => Some(NOW_S + 1),
            _ => None,
        };
        node.roles = self.roles(Dimension::PrincipalRole);
        let platform =
            PlatformRole::ALL.iter().filter(|role| self.is(Dimension::PrincipalPlatformRole(**role)));
        node.roles.extend(platform.map(|role| ("PlatformRole", role.as_str())));
        node
    }

    pub(in crate::authorization) fn resource(&self) -> Node {
        let kind = self.question.resource;
        let principal = self.principal();
        let own = self.value(Dimension::ResourceOrg) == OWN;
        let org: OrgState = match principal.org {
            Some(org) if own => org,
            _ => (if own { ORG } else { OTHER_ORG }, self.org_status(Dimension::ResourceOrgStatus)),
        };
        match kind {
            "Organization" => Node::org(org),
            "User" | "ServiceAccount" if own && self.is(Dimension::ResourceSelf) => principal,
            "User" | "ServiceAccount" => Node {
                org: Some(org),
                status: Some(self.value(Dimension::ResourceStatus)),
                roles: self.roles(Dimension::ResourceRole),
                ..Node::plain(kind, OTHER)
            },
            "Model" => Node { org: Some(org), ..Node::plain(kind, OTHER) },
            "ApiKey" => {
                let user = match self.value(Dimension::ResourceUser) {
                    NOBODY => None,
                    PRINCIPAL => Some(SELF),
                    _ => Some(OTHER),
                };
                Node::key("key", org, user)
            }
            _ => Node::plain(kind, "there"),
        }
    }

    pub(in crate::authorization) fn granted_roles(&self) -> Vec<&'static str> {
        let granted = self.value(Dimension::GrantedRoles);
        Role::ALL.iter().map(|role| role.as_str()).filter(|role| granted == ALL || granted == *role).collect()
    }

    pub(in crate::authorization) fn call<'r>(&self, roles: &'r [&'static str]) -> Call<'r> {
        Call {
            now: DateTime::from_timestamp(NOW_S, 0).unwrap_or_default(),
            credential: self.value(Dimension::Credential),
            in_scope: self.is(Dimension::InScope),
            mfa: self.is(Dimension::Mfa),
            roles,
            roles_within_own: self.is(Dimension::RolesWithinOwn),
            scopes_within_own: self.is(Dimension::ScopesWithinOwn),
            admin_scope: self.is(Dimension::AdminScope),
        }
    }

    pub(in crate::authorization) fn org_self_service(&self) -> bool {
        self.is(Dimension::OrgSelfService)
    }

    fn org_status(&self, dimension: Dimension) -> OrgStatus {
        OrgStatus::parse(self.value(dimension)).unwrap_or(OrgStatus::Active)
    }

    fn roles(&self, dimension: fn(Role) -> Dimension) -> Vec<(&'static str, &'static str)> {
        Role::ALL
            .iter()
            .filter(|role| self.is(dimension(**role)))
            .map(|role| ("Role", role.as_str()))
            .collect()
    }
}

/// The question, and what is not as usual about it.
impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Question { principal, action, resource } = self.question;
        write!(f, "{principal} {} {resource}", action.as_str())?;
        let unusual =
            self.values.iter().filter(|(dimension, value)| self.words(**dimension).first() != Some(*value));
        for (index, (dimension, value)) in unusual.enumerate() {
            let between = if index == 0 { ", where" } else { "," };
            match *value {
                YES => write!(f, "{between} {dimension}")?,
                NO => write!(f, "{between} not {dimension}")?,
                value => write!(f, "{between} {dimension} is {value}")?,
            }
        }
        Ok(())
    }
}
