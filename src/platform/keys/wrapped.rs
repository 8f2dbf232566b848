//! Keys that Vault Transit has wrapped, as the database keeps them. The service reads them; the owner of the tables,
//! `identityd keys`, makes them.
use super::{KeysError, file, ring::Material};
use crate::platform::vault::{CALLS_MAX, Vault, VaultError};
use diesel::{
    QueryableByName, sql_query,
    sql_types::{Bool, SmallInt, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use std::{collections::BTreeMap, path::Path};

const KINDS: &[&str] = &["pepper", "audit", "data", "signing"];
const FIRST: i16 = 1;
/// More are a mistake; each takes a call at the start.
const ROWS_MAX: i64 = 256;

/// One wrapped key.
#[derive(QueryableByName)]
pub struct WrappedKey {
    /// What it is for.
    #[diesel(sql_type = Text)]
    pub kind: String,
    /// Stands beside what was made with it.
    #[diesel(sql_type = SmallInt)]
    pub version: i16,
    /// The Transit key that wraps it.
    #[diesel(sql_type = Text)]
    pub transit_key: String,
    /// `vault:vN:…`, as Vault gave it: `N` is the version of the Transit key.
    #[diesel(sql_type = Text)]
    pub wrapped: String,
}

/// Every wrapped key.
pub async fn list(conn: &mut AsyncPgConnection) -> Result<Vec<WrappedKey>, KeysError> {
    let rows = "SELECT kind, version, transit_key, wrapped FROM wrapped_keys ORDER BY kind, version LIMIT $1";
    Ok(sql_query(rows).bind::<diesel::sql_types::BigInt, _>(ROWS_MAX).load(conn).await?)
}

/// Every key, by Vault.
pub(super) async fn unwrap_all(vault: &Vault, conn: &mut AsyncPgConnection) -> Result<Material, KeysError> {
    let unwrap = |row: WrappedKey| async move {
        match vault.unwrap_key(&place(&row.kind, row.version), &row.wrapped).await {
            Ok(key) => Ok((row.kind, row.version, key)),
            Err(source) => Err(KeysError::Unwrap { kind: row.kind, version: row.version, source }),
        }
    };
    let rows = list(conn).await?;
    let Some(first) = rows.as_slice().first() else { return Err(KeysError::NotMade) };
    if let Some(missing) = missing(&rows) {
        return Err(KeysError::Lost(missing));
    }
    if let Some(row) = rows.iter().find(|row| row.transit_key != vault.key()) {
        return Err(KeysError::Elsewhere { kind: row.kind.clone(), version: row.version });
    }
    // A Transit key that is not derived takes a context and does not mind it.
    match vault.unwrap_key("nowhere", &first.wrapped).await {
        Err(VaultError::Refused(_)) => (),
        Ok(_) => return Err(KeysError::Unbound),
        Err(source) => {
            return Err(KeysError::Unwrap { kind: first.kind.clone(), version: first.version, source });
        }
    }
    let mut material = Material::default();
    // No more than Vault is asked at once: whoever waits for his turn has the time of his call run.
    let unwrapped = stream::iter(rows.into_iter().map(unwrap)).buffer_unordered(CALLS_MAX);
    for (kind, version, key) in unwrapped.try_collect::<Vec<_>>().await? {
        material.of_kind(&kind)?.insert(version, key.into_inner());
    }
    Ok(material)
}

/// Makes the first key of each kind, for a database that has had none. Answers which: it may run twice, or at
/// once. Keys that are missing where there are others, or where something was made with them, are lost, and new ones of
/// the same version would only hide that.
pub async fn make(vault: &Vault, conn: &mut AsyncPgConnection) -> Result<&'static [&'static str], KeysError> {
    let mut made = vec![];
    if list(conn).await?.is_empty() {
        for kind in KINDS {
            made.push((*kind, FIRST, vault.make_key(&place(kind, FIRST)).await.map_err(KeysError::Wrap)?));
        }
    }
    alone(conn, async |conn| {
        let there = list(conn).await?;
        match missing(&there) {
            _ if there.is_empty() && is_used(conn).await? => Err(KeysError::Used),
            Some(kind) if !there.is_empty() => Err(KeysError::Lost(kind)),
            Some(_) => put(conn, vault, &made).await.map(|()| KINDS),
            None => Ok(&[][..]),
        }
    })
    .await
}

/// Has anything been made with a key?
async fn is_used(conn: &mut AsyncPgConnection) -> Result<bool, KeysError> {
    #[derive(QueryableByName)]
    struct Used {
        #[diesel(sql_type = Bool)]
        used: bool,
    }
    let used = "SELECT EXISTS (SELECT FROM passwords) OR EXISTS (SELECT FROM api_keys)
        OR EXISTS (SELECT FROM operator_tokens) OR EXISTS (SELECT FROM sessions)
        OR EXISTS (SELECT FROM audit_outbox) OR EXISTS (SELECT FROM audit_head WHERE size > 0) AS used";
    let Used { used } = sql_query(used).get_result(conn).await?;
    Ok(used)
}

/// Wraps the keys of a key ring, for a database that has used it so far. All of them, or none.
pub async fn import(vault: &Vault, conn: &mut AsyncPgConnection, path: &Path) -> Result<usize, KeysError> {
    let Material { pepper, audit, data, signing } = file::read(path)?;
    let kinds: [(&str, BTreeMap<i16, Vec<u8>>); 4] =
        [("pepper", pepper), ("audit", audit), ("data", data), ("signing", signing)];
    let mut rows = vec![];
    for (kind, keys) in &kinds {
        for (version, key) in keys {
            let wrapped = vault.wrap(&place(kind, *version), key).await.map_err(KeysError::Wrap)?;
            rows.push((*kind, *version, wrapped));
        }
    }
    alone(conn, async |conn| match list(conn).await?.is_empty() {
        true => put(conn, vault, &rows).await,
        false => Err(KeysError::Made),
    })
    .await?;
    Ok(rows.len())
}

/// In a transaction, while nobody else writes wrapped keys.
async fn alone<T>(
    conn: &mut AsyncPgConnection,
    body: impl AsyncFnOnce(&mut AsyncPgConnection) -> Result<T, KeysError>,
) -> Result<T, KeysError> {
    conn.batch_execute("BEGIN; LOCK TABLE wrapped_keys IN EXCLUSIVE MODE").await?;
    let done = body(conn).await;
    conn.batch_execute(if done.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
    done
}

/// Wraps every key anew, under the newest version of its Transit key. Answers how many were not.
pub async fn rewrap(vault: &Vault, conn: &mut AsyncPgConnection) -> Result<usize, KeysError> {
    let mut changed = 0;
    for row in list(conn).await? {
        let wrapped =
            vault.rewrap(&place(&row.kind, row.version), &row.wrapped).await.map_err(KeysError::Wrap)?;
        changed += usize::from(version_of(&wrapped) != version_of(&row.wrapped));
        sql_query("UPDATE wrapped_keys SET wrapped = $4 WHERE kind = $1 AND version = $2 AND wrapped = $3")
            .bind::<Text, _>(&row.kind)
            .bind::<SmallInt, _>(row.version)
            .bind::<Text, _>(&row.wrapped)
            .bind::<Text, _>(&wrapped)
            .execute(conn)
            .await?;
    }
    Ok(changed)
}

/// `vN` of `vault:vN:…`.
fn version_of(wrapped: &str) -> Option<&str> {
    wrapped.split(':').nth(1)
}

impl WrappedKey {
    /// The version of the Transit key that wraps it, as `v1`.
    pub fn transit_version(&self) -> &str {
        version_of(&self.wrapped).unwrap_or_default()
    }
}

impl Material {
    fn of_kind(&mut self, kind: &str) -> Result<&mut BTreeMap<i16, Vec<u8>>, KeysError> {
        match kind {
            "pepper" => Ok(&mut self.pepper),
            "audit" => Ok(&mut self.audit),
            "data" => Ok(&mut self.data),
            "signing" => Ok(&mut self.signing),
            _ => Err(KeysError::Key("of a kind that this release does not know")),
        }
    }
}

async fn put(
    conn: &mut AsyncPgConnection,
    vault: &Vault,
    rows: &[(&str, i16, String)],
) -> Result<(), KeysError> {
    for (kind, version, wrapped) in rows {
        sql_query("INSERT INTO wrapped_keys (kind, version, transit_key, wrapped) VALUES ($1, $2, $3, $4)")
            .bind::<Text, _>(kind)
            .bind::<SmallInt, _>(version)
            .bind::<Text, _>(vault.key())
            .bind::<Text, _>(wrapped)
            .execute(conn)
            .await?;
    }
    Ok(())
}

/// What a wrapped key is bound to.
fn place(kind: &str, version: i16) -> String {
    format!("{kind}/{version}")
}

fn missing(rows: &[WrappedKey]) -> Option<&'static str> {
    KINDS.iter().copied().find(|kind| rows.iter().all(|row| row.kind != *kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_the_transit_key_is_read_whatever_it_is() {
        assert_eq!(version_of("vault:v1:abc"), Some("v1"));
        assert_eq!(version_of("vault:v23:abc="), Some("v23"));
        assert_eq!(version_of(""), None);
    }
}
