//! What Cedar is told: who asks, about what, and under which circumstances.
use super::{AnyError, Call, Node, slices::Slice};
use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression as Value, Schema,
};
use std::collections::HashMap;

/// The names of types, read once.
pub(super) struct Types(HashMap<String, EntityTypeName>);

impl Types {
    pub(super) fn of(schema: &Schema) -> Self {
        let action = schema.actions().map(EntityUid::type_name);
        Self(schema.entity_types().chain(action).map(|name| (name.to_string(), name.clone())).collect())
    }

    /// Any text is an id: it is never parsed.
    pub(super) fn uid(&self, kind: &str, id: &str) -> Result<EntityUid, AnyError> {
        let name = self.0.get(kind).ok_or_else(|| format!("no entity type is named {kind}"))?;
        Ok(EntityUid::from_type_name_and_id(name.clone(), EntityId::new(id)))
    }

    /// Somebody and something that the slice is about.
    pub(super) fn ends(&self, slice: &Slice) -> Result<(EntityUid, EntityUid), AnyError> {
        Ok((self.uid(&slice.principal, "somebody")?, self.uid(&slice.resource, "something")?))
    }

    /// Both, and the orgs they are of: as far as policies may follow attributes.
    pub(super) fn around(&self, principal: &Node, resource: &Node) -> Result<Vec<Entity>, AnyError> {
        let mut entities: Vec<Entity> = Vec::with_capacity(5);
        let mut add = |node: &Node| {
            let uid = self.uid(node.kind, &node.id)?;
            if entities.iter().all(|entity| entity.uid() != uid) {
                entities.push(self.entity(uid, node)?);
            }
            Ok::<_, AnyError>(())
        };
        // The principal comes first: as his own target he keeps his roles.
        add(principal)?;
        add(resource)?;
        for org in [principal.org, resource.org].into_iter().flatten() {
            add(&Node::org(org))?;
        }
        Ok(entities)
    }

    fn entity(&self, uid: EntityUid, node: &Node) -> Result<Entity, AnyError> {
        let mut attributes = HashMap::new();
        if let Some(status) = node.status {
            attributes.insert("status".to_owned(), Value::new_string(status.to_owned()));
        }
        if let Some((org, _)) = node.org {
            let org = self.uid("Organization", &org.to_string())?;
            attributes.insert("org".to_owned(), Value::new_entity_uid(org));
        }
        if let Some(due) = node.mfa_due_at_s {
            attributes.insert("mfaDueAtS".to_owned(), Value::new_long(due));
        }
        if let Some(user) = node.user {
            let user = self.uid("User", &user.to_string())?;
            attributes.insert("user".to_owned(), Value::new_entity_uid(user));
        }
        let parents = node.roles.iter().map(|(kind, name)| self.uid(kind, name)).collect::<Result<_, _>>()?;
        Ok(Entity::new(uid, attributes, parents)?)
    }
}

/// The only way to make a store on the way to a decision. Cedar adds actions where it is given the schema, which takes
/// longer than the decision; without one it does not, and then `action in …` is false, and a forbid is gone.
pub(super) fn store(mut around: Vec<Entity>, action: &Entity) -> Result<Entities, AnyError> {
    around.push(action.clone());
    Ok(Entities::from_entities(around, None)?)
}

pub(super) fn context(call: &Call<'_>, org_self_service: bool) -> Result<Context, AnyError> {
    let credential = Value::new_record([
        ("kind".to_owned(), Value::new_string(call.credential.to_owned())),
        ("inScope".to_owned(), Value::new_bool(call.in_scope)),
        ("mfa".to_owned(), Value::new_bool(call.mfa)),
    ])?;
    let roles = call.roles.iter().map(|role| Value::new_string((*role).to_owned()));
    let grants = Value::new_record([
        ("roles".to_owned(), Value::new_set(roles)),
        ("rolesWithinOwn".to_owned(), Value::new_bool(call.roles_within_own)),
        ("scopesWithinOwn".to_owned(), Value::new_bool(call.scopes_within_own)),
        ("adminScope".to_owned(), Value::new_bool(call.admin_scope)),
    ])?;
    Ok(Context::from_pairs([
        ("nowS".to_owned(), Value::new_long(call.now.timestamp())),
        ("orgSelfService".to_owned(), Value::new_bool(org_self_service)),
        ("credential".to_owned(), credential),
        ("grants".to_owned(), grants),
    ])?)
}
