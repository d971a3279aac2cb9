//! grpc.health.v1 on the client listener, filtered by grants: what a system may not call, it cannot ask about.

use std::{pin::Pin, sync::Arc};

use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
};

use super::{Caller, visible};

#[derive(Clone, Copy, Debug)]
pub(super) struct Health;

type Watch = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

#[tonic::async_trait]
impl tonic_health::pb::health_server::Health for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let caller = Caller::of(&request)?;
        match status(&caller, &request.get_ref().service) {
            ServingStatus::ServiceUnknown => Err(Status::not_found("no such service")),
            status => Ok(Response::new(HealthCheckResponse {
                status: status.into(),
            })),
        }
    }

    type WatchStream = Watch;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Watch>, Status> {
        let caller = Caller::of(&request)?;
        let service = request.into_inner().service;
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let tasks = caller.0.worker.tasks.clone();
        tasks.spawn(async move {
            let shared = Arc::clone(caller.shared());
            let mut changed = shared.rights.generation();
            let mut last = None;
            loop {
                let now = status(&caller, &service);
                if last != Some(now) {
                    last = Some(now);
                    let message = HealthCheckResponse { status: now.into() };
                    if sender.send(Ok(message)).await.is_err() {
                        return;
                    }
                }
                tokio::select! {
                    Ok(()) = changed.changed() => {}
                    () = shared.draining.cancelled(), if now != ServingStatus::NotServing => {}
                    () = sender.closed() => return,
                }
            }
        });
        Ok(Response::new(Box::pin(
            tokio_stream::wrappers::ReceiverStream::new(receiver),
        )))
    }
}

fn status(caller: &Caller, service: &str) -> ServingStatus {
    let shared = caller.shared();
    let known = service.is_empty()
        || visible(shared, &shared.rights.snapshot(), caller.id())
            .iter()
            .any(|name| &**name == service);
    match (
        known,
        shared.draining.is_cancelled() || !shared.ledger.writable(),
    ) {
        (false, _) => ServingStatus::ServiceUnknown,
        (true, true) => ServingStatus::NotServing,
        (true, false) => ServingStatus::Serving,
    }
}
