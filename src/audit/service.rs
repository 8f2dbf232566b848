use super::{
    error::AuditError,
    model::{Chain, Filter, Record, Slice},
    store,
};
use crate::{
    authorization::{Action, Target},
    kernel::Ctx,
    ledger,
    platform::telemetry,
    work::{ReadTx, Work},
};

/// Events of a chain, the newest first, with what is personal about them.
#[tracing::instrument(name = "audit.list_events", skip_all, err(level = "debug"))]
pub async fn list_events(
    work: &Work,
    ctx: &Ctx,
    chain: Chain,
    filter: Filter,
    slice: Slice,
) -> Result<Vec<Record>, AuditError> {
    let target = match chain {
        Chain::Org(org) => Target::Org(org),
        Chain::All | Chain::Platform => Target::Platform,
    };
    let permit = work.permit(ctx, Action::AuditRead, target).await?;

    let list = async |tx: &mut ReadTx<'_>| {
        let records = match chain {
            Chain::All => store::list_of_all(tx, &filter, slice).await?,
            // Outside of any org a transaction names the reserved one, and that chain is the platform's.
            Chain::Platform | Chain::Org(_) => store::list_of_org(tx, &filter, slice).await?,
        };
        let sealed = store::list_sealed(tx, &records).await?;
        Ok::<_, AuditError>((records, sealed))
    };
    let (mut records, sealed) = work.read(ctx, permit, list).await?;

    for record in &mut records {
        let Some(sealed) = sealed.get(&record.event.uuid()) else { continue };
        match ledger::open_pii(work.keys(), record.event, sealed) {
            Ok(personal) => record.personal = personal,
            // The event is shown without: one value that was altered must not hide the others.
            Err(error) => {
                tracing::error!(error = telemetry::chain(&error), event.id = %record.event, "sealed values of an audit event do not open");
            }
        }
    }
    Ok(records)
}
