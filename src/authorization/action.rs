//! The vocabulary: Cedar action ids, which are also scopes and the `action` of audit events.

macro_rules! actions {
    ($($variant:ident = $name:literal),* $(,)?) => {
        /// What can be asked for. `Engine::load` refuses a schema that has other names.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Action { $(#[doc = concat!("`", $name, "`")] $variant),* }

        impl Action {
            /// Every action, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The public name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// The reverse of `as_str`.
            pub fn parse(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

actions! {
    OrgsRead = "orgs:read", OrgsCreate = "orgs:create", OrgsUpdate = "orgs:update", OrgsSuspend = "orgs:suspend",
    OrgsDelete = "orgs:delete", OrgsRestore = "orgs:restore",
    UsersRead = "users:read", UsersInvite = "users:invite", UsersUpdate = "users:update",
    UsersSuspend = "users:suspend", UsersDelete = "users:delete", UsersRestore = "users:restore",
    UsersUnlock = "users:unlock",
    RolesRead = "roles:read", RolesAssign = "roles:assign", RolesManage = "roles:manage",
    ServiceAccountsRead = "service-accounts:read", ServiceAccountsManage = "service-accounts:manage",
    KeysRead = "keys:read", KeysIssue = "keys:issue", KeysRotate = "keys:rotate", KeysRevoke = "keys:revoke",
    SessionsRead = "sessions:read", SessionsRevoke = "sessions:revoke",
    RecoveriesRead = "recoveries:read", RecoveriesApprove = "recoveries:approve",
    PoliciesRead = "policies:read", PoliciesEvaluate = "policies:evaluate", PoliciesManage = "policies:manage",
    BudgetsRead = "budgets:read", BudgetsManage = "budgets:manage", BudgetsSpend = "budgets:spend",
    BudgetsOverride = "budgets:override", BudgetsApprove = "budgets:approve",
    AuditRead = "audit:read", AuditExport = "audit:export",
    DeclarativeRead = "declarative:read", DeclarativeApply = "declarative:apply",
    DeclarativePause = "declarative:pause", DeclarativeApprove = "declarative:approve",
    WebhooksRead = "webhooks:read", WebhooksManage = "webhooks:manage",
    BreakGlassRequest = "break-glass:request", BreakGlassApprove = "break-glass:approve",
    ComplianceRead = "compliance:read", IdpsManage = "idps:manage", ClientsManage = "clients:manage",
    ScimManage = "scim:manage", AnomaliesRead = "anomalies:read", AnomaliesResolve = "anomalies:resolve",
    AccessReviewsRead = "access-reviews:read", AccessReviewsDecide = "access-reviews:decide",
    SecurityEmergencyRevoke = "security:emergency-revoke",
    PlatformRead = "platform:read", PlatformManage = "platform:manage",
    SelfManage = "self:manage", SignInUse = "sign-in:use",
    InferenceInvoke = "inference:invoke", ModelsRead = "models:read",
}

impl Action {
    /// Refused while the authorization state is stale. Who asks on others' behalf is answered a while longer, like who
    /// checks keys, and told.
    pub(super) fn is_administrative(self) -> bool {
        !self.as_str().ends_with(":read") && self != Self::SignInUse && self != Self::PoliciesEvaluate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_read_back() {
        let all: std::collections::BTreeSet<_> = Action::ALL.iter().map(|action| action.as_str()).collect();
        assert_eq!(all.len(), Action::ALL.len());
        assert!(Action::ALL.iter().all(|action| Action::parse(action.as_str()) == Some(*action)));
    }
}
