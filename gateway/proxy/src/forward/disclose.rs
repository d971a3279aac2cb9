//! Layer: the fields that a grant discloses, cut on the wire format before anything is hashed, recorded or sent.

use std::sync::Arc;

use banqiao_proto::exchange::v1::Reason;
use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::OwnedSemaphorePermit;

use super::{Forward, guard::Stop};
use crate::{
    refusal::Refusal,
    wire::{Coding, DisclosureMask, Frame, FrameReader},
};

/// Cuts the messages of one answer.
pub(super) struct Cutter {
    mask: Arc<DisclosureMask>,
    frames: FrameReader,
    message: BytesMut,
    /// The message's share of the budget of all calls.
    permit: Option<OwnedSemaphorePermit>,
    coding: Coding,
}

impl Forward {
    /// A cutter, where the grant names fields.
    pub(super) fn cutter(&self, coding: Coding) -> Option<Cutter> {
        let mask = Arc::clone(self.mask.as_ref()?);
        let limit = self.call.conn.worker.shared.limits.disclosed_message;
        let max = u32::try_from(limit)
            .unwrap_or(u32::MAX)
            .min(self.plan.method.max_response_bytes);
        Some(Cutter {
            mask,
            frames: FrameReader::new(max),
            message: BytesMut::new(),
            permit: None,
            coding,
        })
    }

    /// The pieces that may leave for a chunk that came: the chunk itself where nothing is cut.
    pub(super) async fn cut(
        &self,
        cutter: &mut Option<Cutter>,
        mut chunk: Bytes,
    ) -> Result<Vec<Bytes>, Stop> {
        let Some(cutter) = cutter else {
            return Ok(vec![chunk]);
        };
        let mut pieces = Vec::new();
        loop {
            let frame = cutter
                .frames
                .next(&mut chunk)
                .map_err(|error| failed(error.to_string()))?;
            match frame {
                None => return Ok(pieces),
                Some(Frame::Begin {
                    compressed: true, ..
                }) => {
                    return Err(failed(
                        "the service compressed an answer that has to be cut",
                    ));
                }
                Some(Frame::Begin { len, .. }) => {
                    let budget = Arc::clone(&self.call.conn.worker.shared.disclosure);
                    // Waiting here holds this call's window back, not the gateway.
                    let permit = budget.acquire_many_owned(len).await;
                    cutter.permit = Some(permit.map_err(|_| failed("the gateway is stopping"))?);
                    cutter.message.reserve(len as usize);
                }
                Some(Frame::Data(piece)) => cutter.message.extend_from_slice(&piece),
                Some(Frame::End) => pieces.push(cutter.whole()?),
            }
        }
    }
}

impl Cutter {
    fn whole(&mut self) -> Result<Bytes, Stop> {
        let mut out = Vec::with_capacity(self.message.len() + 5);
        out.put_bytes(0, 5);
        self.mask
            .filter(&self.message, &mut out)
            .map_err(|error| failed(error.to_string()))?;
        let length =
            u32::try_from(out.len() - 5).map_err(|_| failed("the message is too large"))?;
        out[1..5].copy_from_slice(&length.to_be_bytes());
        self.message = BytesMut::new();
        self.permit = None;
        Ok(out.into())
    }
}

impl std::fmt::Debug for Cutter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cutter")
            .field("held", &self.message.len())
            .field("coding", &self.coding)
            .finish_non_exhaustive()
    }
}

fn failed(detail: impl Into<std::borrow::Cow<'static, str>>) -> Stop {
    Refusal::new(Reason::DisclosureFailed, detail).into()
}
