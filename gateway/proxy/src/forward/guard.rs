//! What may end a call from outside while its messages flow.

use std::{
    future::{Future, pending, poll_fn},
    pin::{Pin, pin},
    time::Duration,
};

use banqiao_proto::exchange::v1::Reason;
use tokio::time::{Instant, sleep_until};

use super::Forward;
use crate::refusal::Refusal;

/// Why a step did not come to its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// A gateway ends the call.
    Refused(Refusal),
    /// The caller went away.
    Gone,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Forward {
    /// Runs a step, which stays where its caller has it, until it is done, the deadline passes, the caller goes away, the right to call ends, the gateway
    /// stops, or a stream has been idle for too long.
    pub(super) async fn guarded<T>(
        &self,
        mut step: Pin<&mut impl Future<Output = Result<T, Stop>>>,
    ) -> Result<T, Stop> {
        let mut ended = pin!(self.registered.ended());
        let mut late = pin!(async {
            match self.call.deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => pending().await,
            }
        });
        let mut ticking = pin!(self.tick());
        tokio::select! {
            biased;
            done = &mut step => done,
            () = poll_fn(|cx| self.responder.poll_gone(cx)) => Err(Stop::Gone),
            reason = &mut ended => Err(Stop::Refused(cut(reason))),
            () = &mut late => Err(Stop::Refused(Refusal::new(
                Reason::DeadlineExceeded,
                "the deadline passed at the gateway",
            ))),
            stop = &mut ticking => Err(stop),
        }
    }

    /// Enters the progress of a stream that is active but slow, and ends one that is idle. Only returns to end it.
    async fn tick(&self) -> Stop {
        let method = &self.plan.method;
        if method.is_unary() {
            return pending().await;
        }
        let limits = &self.call.conn.worker.shared.limits;
        let mut entered = Instant::now();
        loop {
            let idle = self.last_active() + limits.stream_idle;
            let due = entered + limits.progress_interval;
            let wake = if method.long_lived {
                due
            } else {
                due.min(idle)
            };
            sleep_until(wake.max(Instant::now() + Duration::from_millis(10))).await;
            let now = Instant::now();
            if !method.long_lived && self.last_active() + limits.stream_idle <= now {
                self.call
                    .conn
                    .worker
                    .shared
                    .metrics
                    .limit_hit("stream_idle");
                return Stop::Refused(Refusal::new(
                    Reason::StreamIdle,
                    "no message crossed for too long",
                ));
            }
            if due <= now {
                entered = now;
                if self.progress.dirty()
                    && let Err(refusal) = self.progress.enter(&self.call, || self.running()).await
                {
                    return Stop::Refused(refusal);
                }
            }
        }
    }
}

fn cut(reason: Reason) -> Refusal {
    let detail = match reason {
        Reason::CertificateWithdrawn => "the caller's certificate no longer holds",
        Reason::GrantRevoked => "the grant was revoked or ran out",
        Reason::LeaseLost => "this replica lost its lease",
        _ => "the gateway is stopping",
    };
    Refusal::new(reason, detail)
}
