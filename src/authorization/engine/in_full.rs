//! The same question asked the slow way: of every policy, with everything held against the schema. Debug builds ask both
//! ways, and the two must agree.
use super::{AnyError, Call, Engine, Node, context, policy_of};
use crate::authorization::Action;
use cedar_policy::{Authorizer, Decision, Entities, Request, Response};

/// Decision, determining policies, and those that erred.
type Told = (Decision, Vec<String>, Vec<String>);

impl Engine {
    /// Do the slice and all policies say the same?
    #[cfg(debug_assertions)]
    pub(super) fn says_so_in_full(
        &self,
        principal: &Node,
        resource: &Node,
        action: Action,
        call: &Call<'_>,
    ) -> bool {
        let sliced = self.evaluate(principal, resource, action, call).ok().flatten();
        let full = self.evaluate_in_full(principal, resource, action, call).ok().flatten();
        sliced.as_ref().map(told) == full.as_ref().map(told)
    }

    pub(super) fn evaluate_in_full(
        &self,
        principal: &Node,
        resource: &Node,
        action: Action,
        call: &Call<'_>,
    ) -> Result<Option<Response>, AnyError> {
        let types = &self.slices.types;
        let (who, what) =
            (types.uid(principal.kind, &principal.id)?, types.uid(resource.kind, &resource.id)?);
        let context = context(call, self.org_self_service)?;
        let action = types.uid("Action", action.as_str())?;
        let Ok(request) = Request::new(who, action, what, context, Some(&self.schema)) else {
            return Ok(None);
        };
        let entities = Entities::from_entities(types.around(principal, resource)?, Some(&self.schema))?;
        Ok(Some(Authorizer::new().is_authorized(&request, &self.policies, &entities)))
    }
}

pub(super) fn told(response: &Response) -> Told {
    let mut reasons: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
    let mut errors: Vec<String> = response.diagnostics().errors().map(policy_of).collect();
    reasons.sort();
    errors.sort();
    (response.decision(), reasons, errors)
}
