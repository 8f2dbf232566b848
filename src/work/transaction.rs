//! How a unit of work begins and ends: on facts that hold, in the order that locks the one hot row for the shortest time.
use super::{Work, WorkError, idempotency, tx};
use crate::{
    authorization::{self, Ask, Change, Permit, Scope},
    kernel::{Actor, Answer, Ctx},
    ledger::{self, Event},
    platform::{db::Connection, telemetry::chain},
};
use diesel_async::{AnsiTransactionManager, AsyncPgConnection, TransactionManager};

/// How often a write may have its permit overtaken by a fact before it gives up.
const ASKS_MAX: u32 = 8;

impl Work {
    /// Begins, unless a fact that the permit rests on has changed since: then catches up and asks again, a few times.
    pub(super) async fn begin_current(
        &self,
        ctx: &Ctx,
        mut permit: Permit,
    ) -> Result<(Connection, Permit), WorkError> {
        for _ in 0..ASKS_MAX {
            let mut conn = self.begin(&ctx.actor, permit.scope(), "BEGIN").await?;
            if !authorization::any_newer(&mut conn, permit.rests_on()).await? {
                if let Some(wish) = &ctx.idempotency
                    && let Err(error) = idempotency::claim(&mut conn, &self.keys, ctx, wish).await
                {
                    abandon(&mut conn).await;
                    return Err(error);
                }
                return Ok((conn, permit));
            }
            abandon(&mut conn).await;
            self.state.catch_up(&mut conn).await?;
            drop(conn);
            permit = self.decide(ctx, permit.into_ask()).await?;
        }
        Err(WorkError::Superseded)
    }

    pub(super) async fn begin(
        &self,
        actor: &Actor,
        scope: Scope,
        begin: &str,
    ) -> Result<Connection, WorkError> {
        let mut conn = self.pool.get().await?;
        // Through diesel's manager, so that the pool drops a connection left in a transaction.
        AnsiTransactionManager::begin_transaction_sql(&mut *conn, begin).await?;
        tx::see(&mut conn, actor, scope).await?;
        Ok(conn)
    }

    /// Outbox, answer to remember, then clock and facts, then COMMIT: the order keeps the one hot row locked for the
    /// shortest time. Nothing is committed where its permit was overtaken; then it answers what to ask for again.
    pub(super) async fn seal(
        &self,
        conn: &mut AsyncPgConnection,
        ctx: &Ctx,
        sealed: Sealed,
    ) -> Result<Result<(), Ask>, WorkError> {
        let Sealed { events, changes, answer, permit, scope } = sealed;
        ledger::append(conn, &self.keys, ctx, &events).await?;
        if let (Some(wish), Some(answer)) = (&ctx.idempotency, answer) {
            idempotency::store(conn, &self.keys, ctx, wish, answer).await?;
        }
        let changes = authorization::last_of_each(changes);
        let seq = if changes.is_empty() { 0 } else { authorization::tick(conn).await? };
        // The body may have waited for its rows, and what the permit rests on may have changed meanwhile. From here on
        // no fact can change; a write without facts has it settled a moment before its commit.
        if let Some(permit) = permit
            && let Err(ask) = self.still_permitted(conn, ctx, permit, scope).await?
        {
            abandon(conn).await;
            return Ok(Err(ask));
        }
        if !changes.is_empty() {
            authorization::append(conn, seq, &changes).await?;
        }
        AnsiTransactionManager::commit_transaction(conn).await?;
        self.state.apply_own(seq, &changes);
        self.cache.announce(authorization::announcements(&self.keys, seq, &changes));
        self.wakes.sequencer.notify_one();
        Ok(Ok(()))
    }

    /// Asks again, in this very transaction, as often as a fact turns out to be newer than the one decided on. Answers
    /// what was asked for if that is not permitted any more.
    async fn still_permitted(
        &self,
        conn: &mut AsyncPgConnection,
        ctx: &Ctx,
        mut permit: Permit,
        scope: Scope,
    ) -> Result<Result<(), Ask>, WorkError> {
        for _ in 0..ASKS_MAX {
            if !authorization::any_newer(conn, permit.rests_on()).await? {
                return Ok(Ok(()));
            }
            self.state.read_ahead(conn, permit.rests_on()).await?;
            tx::see(conn, &ctx.actor, scope).await?;
            let ask = permit.into_ask();
            match authorization::decide(&self.engine, &self.state, ctx, ask.clone()) {
                Ok(renewed) => permit = renewed,
                Err(_) => return Ok(Err(ask)),
            }
        }
        Ok(Err(permit.into_ask()))
    }
}

/// What a transaction ends with.
pub(super) struct Sealed {
    pub(super) events: Vec<Event>,
    pub(super) changes: Vec<Change>,
    /// To give again to whoever repeats the request.
    pub(super) answer: Option<Answer>,
    /// That of a write. What nobody decides has none.
    pub(super) permit: Option<Permit>,
    /// What the transaction sees at its end.
    pub(super) scope: Scope,
}

/// For what a use case refuses. After a failure no such care is needed: the pool drops a connection in a transaction.
pub(super) async fn abandon(conn: &mut AsyncPgConnection) {
    if let Err(error) = AnsiTransactionManager::rollback_transaction(conn).await {
        tracing::warn!(error = chain(&error), "rollback failed; the pool will drop this connection");
    }
}
