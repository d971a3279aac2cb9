//! `AuditService.ReportSubject`: who read a person's data, by this city's ledger.

use banqiao_proto::ledger::v1::{
    ReportSubjectRequest, ReportSubjectResponse, report_subject_response::Part,
};
use banqiao_proxy::{EnteredReport, SubjectError, SubjectQuestion};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Response, Status};

use super::{AHEAD, Entries, faulty_field, unreadable};
use crate::admin::{Actor, Core, unwritable};

/// Begins a report and tells it page by page, each of which is entered before it is shown.
pub(super) async fn begin(
    core: &Core,
    actor: &Actor,
    asked: ReportSubjectRequest,
) -> Result<Response<Entries<ReportSubjectResponse>>, Status> {
    let question = SubjectQuestion {
        subject: asked.subject,
        from_us: asked.from_us,
        until_us: asked.until_us,
    };
    let report = core.control.subject_report(question, &actor.name).await;
    let report = report.map_err(status)?;
    let (sender, receiver) = mpsc::channel(AHEAD);
    // Ends with the stream: a reader that goes away closes the channel.
    core.background(tell(report, sender));
    let stream = ReceiverStream::new(receiver)
        .map(|part| part.map(|part| ReportSubjectResponse { part: Some(part) }));
    Ok(Response::new(Box::pin(stream)))
}

async fn tell(mut report: EnteredReport, sender: mpsc::Sender<Result<Part, Status>>) {
    let told = async {
        while let Some(page) = report.next().await? {
            for access in page {
                if sender.send(Ok(Part::Access(access))).await.is_err() {
                    return Ok(());
                }
            }
        }
        let end = report.end().await?;
        // Whoever has gone away needs no end.
        let _ = sender.send(Ok(Part::End(end))).await;
        Ok(())
    };
    let told: Result<(), SubjectError> = told.await;
    if let Err(error) = told {
        let _ = sender.send(Err(status(error))).await;
    }
}

fn status(error: SubjectError) -> Status {
    match error {
        SubjectError::Query(fault) => faulty_field(fault.field.to_owned(), fault.problem),
        SubjectError::Store(error) => unreadable(error),
        SubjectError::Unwritable(error) => unwritable(&error),
        error => Status::internal(error.to_string()),
    }
}
