//! What can be different from one question to the next, as far as policies may look: the finite abstraction.
use crate::{
    authorization::{PlatformRole, Role},
    kernel::{OrgStatus, ServiceAccountStatus, UserStatus, Workload},
};
use std::fmt;

/// One thing that varies. Where it does not apply to a question it has one value; the first is the usual one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(in crate::authorization) enum Dimension {
    PrincipalName,
    PrincipalStatus,
    /// Of no org, or of one: asked only of those who may be of none.
    PrincipalOrg,
    PrincipalOrgStatus,
    PrincipalRole(Role),
    PrincipalPlatformRole(PlatformRole),
    /// Until when a second factor is due.
    MfaDue,
    /// The principal's, or another.
    ResourceOrg,
    /// Of an org that is not the principal's.
    ResourceOrgStatus,
    /// Is it the principal?
    ResourceSelf,
    ResourceStatus,
    ResourceRole(Role),
    /// Whose key.
    ResourceUser,
    OrgSelfService,
    Credential,
    InScope,
    Mfa,
    /// Each role alone, and all.
    GrantedRoles,
    RolesWithinOwn,
    ScopesWithinOwn,
    AdminScope,
}

pub(super) const YES: &str = "yes";
pub(super) const NO: &str = "no";
pub(super) const OWN: &str = "own";
pub(super) const PRINCIPAL: &str = "principal";
pub(super) const NOBODY: &str = "nobody";
pub(super) const OVER: &str = "over";
pub(super) const TO_COME: &str = "to come";
pub(super) const ALL: &str = "all";
/// The workload that may have an org: that which it made.
pub(super) const BOOTSTRAP: &str = "bootstrap";

impl Dimension {
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let plain = [
            Self::PrincipalName,
            Self::PrincipalStatus,
            Self::PrincipalOrg,
            Self::PrincipalOrgStatus,
            Self::MfaDue,
            Self::ResourceOrg,
            Self::ResourceOrgStatus,
            Self::ResourceSelf,
            Self::ResourceStatus,
            Self::ResourceUser,
            Self::OrgSelfService,
            Self::Credential,
            Self::InScope,
            Self::Mfa,
            Self::GrantedRoles,
            Self::RolesWithinOwn,
            Self::ScopesWithinOwn,
            Self::AdminScope,
        ];
        let roles = Role::ALL.iter().flat_map(|role| [Self::PrincipalRole(*role), Self::ResourceRole(*role)]);
        plain
            .into_iter()
            .chain(roles)
            .chain(PlatformRole::ALL.iter().map(|role| Self::PrincipalPlatformRole(*role)))
    }

    /// The values it has for a principal and a resource of these types.
    pub(super) fn words(self, principal: &str, resource: &str) -> Vec<&'static str> {
        let one = vec!["-"];
        let (member, person) =
            (matches!(principal, "User" | "ServiceAccount"), matches!(principal, "User" | "Person"));
        let of_org = !matches!(resource, "Platform" | "Account");
        match self {
            Self::PrincipalName if principal == "Workload" => workloads(),
            Self::PrincipalStatus | Self::ResourceStatus => {
                match if self == Self::PrincipalStatus { principal } else { resource } {
                    "User" => active_first(UserStatus::WORDS),
                    "ServiceAccount" => active_first(ServiceAccountStatus::WORDS),
                    _ => one,
                }
            }
            Self::PrincipalOrg if principal == "Workload" => vec![NO, YES],
            Self::PrincipalOrgStatus if member || principal == "Workload" => active_first(OrgStatus::WORDS),
            Self::ResourceOrgStatus if of_org => active_first(OrgStatus::WORDS),
            Self::PrincipalRole(_) if member => vec![NO, YES],
            Self::PrincipalPlatformRole(_) if person => vec![NO, YES],
            Self::MfaDue if principal == "User" => vec!["never", OVER, TO_COME],
            Self::ResourceOrg if of_org => vec![OWN, "other"],
            Self::ResourceSelf if member && principal == resource => vec![NO, YES],
            Self::ResourceRole(_) if matches!(resource, "User" | "ServiceAccount") => vec![NO, YES],
            Self::ResourceUser if resource == "ApiKey" => vec![NOBODY, PRINCIPAL, "other"],
            Self::Credential => vec!["session", "key", "operator", "workload", "none"],
            Self::OrgSelfService | Self::Mfa | Self::AdminScope => vec![NO, YES],
            Self::InScope | Self::RolesWithinOwn | Self::ScopesWithinOwn => vec![YES, NO],
            Self::GrantedRoles => {
                [NOBODY].into_iter().chain(Role::ALL.iter().map(|role| role.as_str())).chain([ALL]).collect()
            }
            _ => one,
        }
    }
}

fn workloads() -> Vec<&'static str> {
    let ours = [Workload::Jobs, Workload::OperatorCli, Workload::Sequencer];
    ours.iter().map(|workload| workload.as_str()).chain([BOOTSTRAP]).collect()
}

fn active_first(words: &[&'static str]) -> Vec<&'static str> {
    let mut words = words.to_vec();
    words.sort_by_key(|word| *word != "active");
    words
}

/// Every word that a policy may compare with: another one is a slip, and never equal to anything.
pub(super) fn is_known(word: &str) -> bool {
    let statuses = [UserStatus::WORDS, ServiceAccountStatus::WORDS, OrgStatus::WORDS];
    let credentials = Dimension::Credential.words("", "");
    statuses.iter().any(|words| words.contains(&word))
        || credentials.contains(&word)
        || Role::parse(word).is_some()
}

pub(super) fn is_workload(name: &str) -> bool {
    workloads().contains(&name)
}

/// As the policies write it, where they do.
impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PrincipalName => "principal",
            Self::PrincipalStatus => "principal.status",
            Self::PrincipalOrg => "principal has org",
            Self::PrincipalOrgStatus => "principal.org.status",
            Self::PrincipalRole(role) => return write!(f, "principal in Role::\"{}\"", role.as_str()),
            Self::PrincipalPlatformRole(role) => {
                return write!(f, "principal in PlatformRole::\"{}\"", role.as_str());
            }
            Self::MfaDue => "principal.mfaDueAtS",
            Self::ResourceOrg => "resource.org",
            Self::ResourceOrgStatus => "resource.org.status",
            Self::ResourceSelf => "resource == principal",
            Self::ResourceStatus => "resource.status",
            Self::ResourceRole(role) => return write!(f, "resource in Role::\"{}\"", role.as_str()),
            Self::ResourceUser => "resource.user",
            Self::OrgSelfService => "context.orgSelfService",
            Self::Credential => "context.credential.kind",
            Self::InScope => "context.credential.inScope",
            Self::Mfa => "context.credential.mfa",
            Self::GrantedRoles => "context.grants.roles",
            Self::RolesWithinOwn => "context.grants.rolesWithinOwn",
            Self::ScopesWithinOwn => "context.grants.scopesWithinOwn",
            Self::AdminScope => "context.grants.adminScope",
        })
    }
}
