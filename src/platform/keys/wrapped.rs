//! Keys that Vault Transit has wrapped, as the database keeps them. The service reads them; the owner of the tables,
//! `identityd keys`, makes them.
use super::{KeysError, file, ring::Material};
use crate::platform::vault::Vault;
use diesel::{
    QueryableByName, sql_query,
    sql_types::{SmallInt, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _};
use futures_util::future::try_join_all;
use std::{collections::BTreeMap, path::Path};

const KINDS: [&str; 4] = ["pepper", "audit", "data", "signing"];
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
        match vault.unwrap_key(&row.transit_key, &row.wrapped).await {
            Ok(key) => Ok((row.kind, row.version, key)),
            Err(source) => Err(KeysError::Unwrap { kind: row.kind, version: row.version, source }),
        }
    };
    let rows = list(conn).await?;
    if let Some(missing) = KINDS.iter().find(|kind| rows.iter().all(|row| row.kind != **kind)) {
        return Err(KeysError::NotMade(missing));
    }
    let mut material = Material::default();
    for (kind, version, key) in try_join_all(rows.into_iter().map(unwrap)).await? {
        material.of_kind(&kind)?.insert(version, key.into_inner());
    }
    Ok(material)
}

/// Makes the first key of each kind that has none. Answers the kinds; may run twice, or at once.
pub async fn make(vault: &Vault, conn: &mut AsyncPgConnection) -> Result<Vec<&'static str>, KeysError> {
    let mut made = vec![];
    let there = list(conn).await?;
    for kind in KINDS.into_iter().filter(|kind| there.iter().all(|row| row.kind != *kind)) {
        let wrapped = vault.make_key().await.map_err(KeysError::Wrap)?;
        if insert(conn, kind, FIRST, vault.key(), &wrapped).await? > 0 {
            made.push(kind);
        }
    }
    Ok(made)
}

/// Wraps the keys of a key ring, for a database that has used it so far. All of them, or none.
pub async fn import(vault: &Vault, conn: &mut AsyncPgConnection, path: &Path) -> Result<usize, KeysError> {
    let Material { pepper, audit, data, signing } = file::read(path)?;
    let kinds: [(&str, BTreeMap<i16, Vec<u8>>); 4] =
        [("pepper", pepper), ("audit", audit), ("data", data), ("signing", signing)];
    let mut rows = vec![];
    for (kind, keys) in &kinds {
        for (version, key) in keys {
            rows.push((*kind, *version, vault.wrap(key).await.map_err(KeysError::Wrap)?));
        }
    }
    conn.batch_execute("BEGIN; LOCK TABLE wrapped_keys IN EXCLUSIVE MODE").await?;
    if !list(conn).await?.is_empty() {
        conn.batch_execute("ROLLBACK").await?;
        return Err(KeysError::Made);
    }
    for (kind, version, wrapped) in &rows {
        insert(conn, kind, *version, vault.key(), wrapped).await?;
    }
    conn.batch_execute("COMMIT").await?;
    Ok(rows.len())
}

/// Wraps every key anew, under the newest version of its Transit key. Answers how many were not.
pub async fn rewrap(vault: &Vault, conn: &mut AsyncPgConnection) -> Result<usize, KeysError> {
    let mut changed = 0;
    for row in list(conn).await? {
        let wrapped = vault.rewrap(&row.transit_key, &row.wrapped).await.map_err(KeysError::Wrap)?;
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

async fn insert(
    conn: &mut AsyncPgConnection,
    kind: &str,
    version: i16,
    transit_key: &str,
    wrapped: &str,
) -> Result<usize, KeysError> {
    let row = "INSERT INTO wrapped_keys (kind, version, transit_key, wrapped) VALUES ($1, $2, $3, $4)
               ON CONFLICT DO NOTHING";
    let insert = sql_query(row)
        .bind::<Text, _>(kind)
        .bind::<SmallInt, _>(version)
        .bind::<Text, _>(transit_key)
        .bind::<Text, _>(wrapped);
    Ok(insert.execute(conn).await?)
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
