//! Cedar: policies in, verdicts out. Whatever goes wrong on the way is a denial.
mod entities;
#[cfg(test)]
mod equivalence;
#[cfg(any(test, debug_assertions))]
mod in_full;
mod load;
mod slices;

pub use load::EngineError;

use super::{
    Action, Grants,
    grounds::{Grounds, Node},
    matrix::{Matrix, Reach},
};
use crate::platform::{keys::sha256, telemetry::chain};
use cedar_policy::{
    AuthorizationError, Authorizer, Context, Decision, Entity, EntityUid, PolicyId, PolicySet, Request,
    Response, Schema,
};
use chrono::{DateTime, Utc};
use entities::{context, store};
use load::Loaded;
use slices::{Slice, Slices};
use std::collections::BTreeSet;

const ALLOWED: &str = "ALLOWED";
const POLICY_ERROR: &str = "POLICY_ERROR";
const NO_MATCHING_PERMIT: &str = "NO_MATCHING_PERMIT";

/// What a key may use of the services behind us is its org's business and no power over the org.
const NO_POWER: [Action; 3] = [Action::InferenceInvoke, Action::ModelsRead, Action::SelfManage];

/// Schema and policies, checked.
pub struct Engine {
    schema: Schema,
    policies: PolicySet,
    slices: Slices,
    bundle: String,
    org_self_service: bool,
    matrix: Matrix,
}

/// Of a library, told as it is.
pub(super) type AnyError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) allowed: bool,
    /// `ALLOWED`, or why not.
    pub(super) code: String,
    /// The policies that decided.
    pub(super) policy_ids: Vec<String>,
    /// What they ask of whoever enforces it.
    pub(super) obligations: Vec<String>,
}

impl Verdict {
    fn deny(code: &str, policy_ids: Vec<String>) -> Self {
        Self { allowed: false, code: code.to_owned(), policy_ids, obligations: vec![] }
    }
}

/// The context of a question.
#[expect(clippy::struct_excessive_bools, reason = "each is one thing that PostgreSQL or Cedar is told apart")]
pub(super) struct Call<'a> {
    pub(super) now: DateTime<Utc>,
    pub(super) credential: &'static str,
    pub(super) in_scope: bool,
    pub(super) roles: &'a [&'static str],
    pub(super) roles_within_own: bool,
    pub(super) scopes_within_own: bool,
    pub(super) admin_scope: bool,
    pub(super) mfa: bool,
}

impl Call<'_> {
    /// By a person in a session, who gives nothing out.
    pub(super) fn plain(now: DateTime<Utc>) -> Self {
        Self {
            now,
            credential: "session",
            in_scope: true,
            roles: &[],
            roles_within_own: true,
            scopes_within_own: true,
            admin_scope: false,
            mfa: false, // enrolment comes with its release
        }
    }
}

impl Engine {
    /// Refuses whatever would be found out too late: policies that fit no schema, twins, the nameless.
    pub fn load(schema: &str, policies: &str, org_self_service: bool) -> Result<Self, EngineError> {
        let bundle = bundle(schema, policies);
        let Loaded { schema, policies, slices } = load::load(schema, policies)?;
        let matrix = Matrix::default();
        let mut engine = Self { schema, policies, slices, bundle, org_self_service, matrix };
        engine.matrix = Matrix::of(&engine);
        Ok(engine)
    }

    /// Names exactly this schema and these policies: `sha256:` and the digest of both.
    pub fn bundle(&self) -> &str {
        &self.bundle
    }

    /// What each role may do, as these policies have it.
    pub fn matrix(&self) -> &Matrix {
        &self.matrix
    }

    pub(super) fn decide(
        &self,
        grounds: &Grounds,
        action: Action,
        grants: &Grants,
        now: DateTime<Utc>,
    ) -> Verdict {
        let in_scope = grounds.scopes.is_none_or(|scopes| scopes.covers(action));
        let mut call = Call { credential: grounds.credential, in_scope, ..Call::plain(now) };
        let mut roles = vec![];
        match grants {
            Grants::Nothing => (),
            Grants::Roles(given) => {
                roles = given.iter().map(|role| role.as_str()).collect();
                call.roles_within_own =
                    given.iter().all(|role| self.matrix.of_role(*role).is_within(self.own(grounds)));
            }
            Grants::Key(scopes, holder_roles) => {
                let ceiling = grounds.scopes.is_none_or(|own| scopes.is_within(own));
                let of_holder = holder_roles.iter().map(|role| self.matrix.of_role(*role));
                let of_key = of_holder.fold(Reach::default(), Reach::union).limited_to(*scopes);
                let own = self.own(grounds).and(NO_POWER.into_iter().collect());
                call.scopes_within_own = ceiling && of_key.is_within(own);
                call.admin_scope = scopes.is_admin();
            }
        }
        call.roles = &roles;
        #[cfg(debug_assertions)]
        assert!(
            self.says_so_in_full(&grounds.principal, &grounds.resource, action, &call),
            "a slice and all policies say different things about {}",
            action.as_str()
        );
        self.verdict(&grounds.principal, &grounds.resource, action, &call)
    }

    /// All that the principal may do through its roles, below its credential's ceiling.
    fn own(&self, grounds: &Grounds) -> Reach {
        let roles = grounds.principal.roles.iter().map(|(kind, name)| self.matrix.of_entity(kind, name));
        let all = roles.fold(Reach::default(), Reach::union);
        grounds.scopes.map_or(all, |ceiling| all.limited_to(ceiling))
    }

    pub(super) fn verdict(
        &self,
        principal: &Node,
        resource: &Node,
        action: Action,
        call: &Call<'_>,
    ) -> Verdict {
        match self.evaluate(principal, resource, action, call) {
            Ok(Some(response)) => {
                response.diagnostics().errors().for_each(|error| broken(error));
                judged(&response, &self.policies)
            }
            Ok(None) => Verdict::deny(NO_MATCHING_PERMIT, vec![]),
            Err(error) => {
                broken(&*error);
                Verdict::deny(POLICY_ERROR, vec![])
            }
        }
    }

    /// `None`: the schema has no such question, so no policy can answer it.
    fn evaluate(
        &self,
        principal: &Node,
        resource: &Node,
        action: Action,
        call: &Call<'_>,
    ) -> Result<Option<Response>, AnyError> {
        let (slices, types) = (&self.slices, &self.slices.types);
        let Some(slice) = slices.find(principal, action, resource) else { return Ok(None) };
        let (who, what) =
            (types.uid(principal.kind, &principal.id)?, types.uid(resource.kind, &resource.id)?);
        let context = context(call, self.org_self_service)?;
        let around = types.around(principal, resource)?;
        ask(slice, &slice.policies, who, what, context, around).map(Some)
    }
}

/// For whoever looks at the policies, instead of asking them.
impl Engine {
    /// Without a matrix, and even where tenants are not kept apart: then that is told beside it.
    pub(super) fn unguarded(
        schema: &str,
        policies: &str,
    ) -> Result<(Self, Result<(), EngineError>), EngineError> {
        let bundle = bundle(schema, policies);
        let (Loaded { schema, policies, slices }, isolation) = load::read(schema, policies)?;
        let matrix = Matrix::default();
        let engine = Self { schema, policies, slices, bundle, org_self_service: false, matrix };
        Ok((engine, isolation))
    }

    pub(super) fn schema(&self) -> &Schema {
        &self.schema
    }

    pub(super) fn policies(&self) -> &PolicySet {
        &self.policies
    }

    /// Type of principal, action, type of resource, and the policies that can answer that.
    pub(super) fn questions(&self) -> impl Iterator<Item = (&str, Action, &str, &PolicySet)> {
        self.slices
            .all()
            .map(|(slice, action)| (&*slice.principal, action, &*slice.resource, &*slice.policies))
    }

    /// Do these policies, by themselves, say anything about it?
    pub(super) fn applies(
        &self,
        policies: &PolicySet,
        principal: &Node,
        resource: &Node,
        action: Action,
        call: &Call<'_>,
        org_self_service: bool,
    ) -> Result<bool, AnyError> {
        let response = self.ask_these(policies, principal, resource, action, call, org_self_service)?;
        let Some(response) = response else { return Ok(false) };
        match response.diagnostics().errors().next() {
            Some(error) => Err(error.to_string().into()),
            None => Ok(response.diagnostics().reason().next().is_some()),
        }
    }

    /// What all policies say.
    pub(super) fn try_out(
        &self,
        principal: &Node,
        resource: &Node,
        action: Action,
        call: &Call<'_>,
        org_self_service: bool,
    ) -> Result<Verdict, AnyError> {
        let response = self.ask_these(&self.policies, principal, resource, action, call, org_self_service)?;
        let judged = response.map(|response| judged(&response, &self.policies));
        Ok(judged.unwrap_or_else(|| Verdict::deny(NO_MATCHING_PERMIT, vec![])))
    }

    fn ask_these(
        &self,
        policies: &PolicySet,
        principal: &Node,
        resource: &Node,
        action: Action,
        call: &Call<'_>,
        org_self_service: bool,
    ) -> Result<Option<Response>, AnyError> {
        let (slices, types) = (&self.slices, &self.slices.types);
        let Some(slice) = slices.find(principal, action, resource) else { return Ok(None) };
        let (who, what) =
            (types.uid(principal.kind, &principal.id)?, types.uid(resource.kind, &resource.id)?);
        let context = context(call, org_self_service)?;
        ask(slice, policies, who, what, context, types.around(principal, resource)?).map(Some)
    }
}

/// Without the schema, which was asked when it loaded: what we say of ourselves fits it, and that it fits is tested.
fn ask(
    slice: &Slice,
    policies: &PolicySet,
    principal: EntityUid,
    resource: EntityUid,
    context: Context,
    around: Vec<Entity>,
) -> Result<Response, AnyError> {
    let request = Request::new(principal, slice.action.uid(), resource, context, None)?;
    Ok(Authorizer::new().is_authorized(&request, policies, &store(around, &slice.action)?))
}

fn judged(response: &Response, policies: &PolicySet) -> Verdict {
    // Cedar skips a forbid that errs, and may then allow. We never do.
    let erring: Vec<String> = response.diagnostics().errors().map(policy_of).collect();
    if !erring.is_empty() {
        return Verdict::deny(POLICY_ERROR, erring);
    }
    let mut reasons: Vec<&PolicyId> = response.diagnostics().reason().collect();
    reasons.sort();
    let annotated = |name: &'static str| reasons.iter().filter_map(move |id| policies.annotation(id, name));
    let allowed = response.decision() == Decision::Allow;
    let code = if allowed { ALLOWED } else { annotated("reason").next().unwrap_or(NO_MATCHING_PERMIT) };
    let obligations: BTreeSet<&str> = annotated("obligation").collect();
    Verdict {
        allowed,
        code: code.to_owned(),
        policy_ids: reasons.iter().map(ToString::to_string).collect(),
        obligations: obligations.into_iter().map(ToOwned::to_owned).collect(),
    }
}

fn bundle(schema: &str, policies: &str) -> String {
    let digest = sha256(&[schema.as_bytes(), b"\0", policies.as_bytes()]);
    digest.iter().fold("sha256:".to_owned(), |bundle, byte| format!("{bundle}{byte:02x}"))
}

fn policy_of(error: &AuthorizationError) -> String {
    match error {
        AuthorizationError::PolicyEvaluationError(error) => error.policy_id().to_string(),
    }
}

fn broken(error: &(dyn std::error::Error + 'static)) {
    tracing::error!(error = chain(error), "policy evaluation failed, so it denies");
}
