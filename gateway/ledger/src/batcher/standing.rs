//! What has to be known before a ledger is written to: that nobody holds a newer state of it, and by which key it goes on
//! (LEDGER.md §3).

use std::sync::atomic::Ordering;

use banqiao_proto::ledger::v1::{Entry, Kind};
use banqiao_tlog::{
    checkpoint::Checkpoint,
    note::{Note, Verifier},
};

use super::{Batcher, Flow, recover::edge, report};
use crate::{
    anchor,
    append::Append,
    ledger::LedgerError,
    plan::Head,
    queue::{Command, Item, Patience},
    rotation,
    store::{Fault, StoreError, Writer},
};

impl Batcher {
    /// Nobody has confirmed the ledger: what must not wait is refused, and only its standing changes.
    pub(super) async fn while_held(&mut self) -> Flow {
        let taken = self.core.queue.take(0, 0);
        if taken.abandoned {
            return Flow::End;
        }
        for command in taken.commands {
            match command {
                Command::Close(answer) => {
                    self.closing = Some(answer);
                    self.finish().await;
                    return Flow::End;
                }
                Command::Confirm(answer) => {
                    let _ = answer.send(self.confirm().await);
                }
                Command::Freeze(reason, answer) => {
                    let _ = answer.send(self.freeze(&reason).await);
                }
                other => other.refuse(),
            }
        }
        Flow::Continue
    }

    /// Nobody holds a newer state: from here on entries are written.
    pub(super) async fn confirm(&mut self) -> Result<(), LedgerError> {
        let doubted = self.core.doubted.load(Ordering::Relaxed);
        let writer = self.writer()?;
        if doubted {
            writer.put_confirmed().await?;
            self.core.doubted.store(false, Ordering::Relaxed);
        }
        self.session.held = false;
        self.ready();
        self.announce_key().await;
        self.close_orphans().await;
        Ok(())
    }

    /// Marks the head as frozen, and writes nothing more.
    pub(super) async fn freeze(&mut self, reason: &str) -> Result<(), LedgerError> {
        self.writer()?.put_frozen(reason).await?;
        tracing::error!(reason, "the ledger is frozen");
        self.fail(&Fault::Storage(StoreError::Rollback), Vec::new());
        Ok(())
    }

    /// What stands elsewhere of this ledger: the last published checkpoint, and the anchor (LEDGER.md §3, Start). It is
    /// read before the head, because other replicas go on.
    pub(super) async fn memory(&self, writer: &mut Writer) -> Result<Vec<Checkpoint>, Fault> {
        let published = writer.published().await?;
        let mut known: Vec<Checkpoint> = Vec::new();
        if let Some(note) = published {
            let note = Note::parse(note.as_bytes()).ok();
            let checkpoint = note.and_then(|note| note.text().parse().ok());
            known.push(checkpoint.ok_or(Fault::Storage(StoreError::Corrupt("checkpoint")))?);
        }
        if let Some(path) = &self.settings.anchor {
            known.extend(anchor::read(path, &self.keys()).map_err(Fault::Storage)?);
        }
        Ok(known)
    }

    /// The keys that may have signed what is there.
    fn keys(&self) -> Vec<Verifier> {
        let signers = [
            Some(&self.settings.signer),
            self.settings.previous_signer.as_ref(),
        ];
        let known = signers.into_iter().flatten();
        known.map(|signer| signer.verifier().clone()).collect()
    }

    /// Whether the head was signed by the previous key, and not by the present one.
    pub(super) fn rotates(&self, head: &Head) -> Result<bool, StoreError> {
        let Some(note) = &head.note else {
            return Ok(false);
        };
        let signer = self.settings.signer.verifier();
        let note = Note::parse(note.as_bytes()).map_err(|_| StoreError::Corrupt("checkpoint"))?;
        match note.verify(&self.keys()) {
            Ok(signed) => Ok(!signed.contains(&signer)),
            Err(_) => Err(StoreError::OtherKey {
                key: signer.to_string(),
            }),
        }
    }

    /// Enters the change of the key, before anything else is signed by the new one.
    pub(super) async fn announce_key(&mut self) {
        if self.session.held || !self.session.rotates {
            return;
        }
        let Some(old) = &self.settings.previous_signer else {
            return;
        };
        let overlap = i64::try_from(self.settings.key_overlap.as_micros()).unwrap_or(i64::MAX);
        let until_us = self.core.preparer.clock.now_us().saturating_add(overlap);
        let entry = Entry {
            kind: Kind::Key.into(),
            key: Some(rotation::change(old, &self.settings.signer, until_us)),
            ..Entry::default()
        };
        match self.core.preparer.prepare(Append::new(entry)) {
            Ok(prepared) => {
                self.core.queue.lend(1);
                let item = Item {
                    prepared,
                    patience: Patience::Own,
                    waiter: None,
                };
                // What fails is put back in front of everything else.
                self.commit(vec![item]).await;
                self.session.rotates = false;
            }
            Err(error) => {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::error!(error, "the change of the key was not entered");
            }
        }
    }

    /// Writes the newest checkpoint where the database cannot take it along when it is rolled back.
    pub(super) fn write_anchor(&self) {
        if let (Some(path), Some(note)) = (&self.settings.anchor, &self.session.note)
            && let Err(error) = anchor::write(path, note)
        {
            report(&Fault::Storage(error), "the anchor cannot be written");
        }
    }
}

/// What stands elsewhere must not be more than the ledger holds, nor something else.
pub(super) async fn check_memory(
    writer: &mut Writer,
    head: &Head,
    known: &[Checkpoint],
) -> Result<(), Fault> {
    for checkpoint in known {
        let kept = checkpoint.head();
        if kept.size > head.frontier.count()
            || edge(writer, kept.size).await?.frontier().head() != kept
        {
            return Err(Fault::Storage(StoreError::Rollback));
        }
    }
    Ok(())
}
