//! `AuditService.ReadLog`: the log as files, for the city's own auditors.

use banqiao_ledger::LogFile;
use banqiao_proto::ledger::v1::{ReadLogRequest, ReadLogResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use super::{Entries, enter, unreadable};
use crate::admin::{Actor, Core, invalid};

/// Files of one call.
const MAX_PATHS: usize = 1_024;
/// Files on their way to a slow reader: a bundle has a few hundred KiB.
const AHEAD: usize = 8;

/// Enters what is asked for, and sends it.
pub(super) async fn begin(
    core: &Core,
    actor: &Actor,
    asked: ReadLogRequest,
) -> Result<Response<Entries<ReadLogResponse>>, Status> {
    let files = parse(&asked)?;
    let bundles = || {
        files.iter().filter_map(|file| match file {
            LogFile::Bundle(id) => Some(id),
            LogFile::Checkpoint(_) | LogFile::Tile(_) => None,
        })
    };
    let shown: usize = bundles().map(|id| usize::from(id.width())).sum();
    let first = bundles().map(|id| id.index()).min();
    let last = bundles().max_by_key(|id| id.index());
    let entries = match (first, last) {
        (Some(first), Some(last)) => {
            let end = last.index().saturating_mul(256) + u64::from(last.width());
            format!(", entries {}..{end}", first.saturating_mul(256))
        }
        _ => String::new(),
    };
    let query = format!("log {} files{entries}", files.len());
    enter(core, actor, &query, shown).await?;
    let (sender, receiver) = mpsc::channel(AHEAD);
    let reader = core.control.ledger().reader();
    // Ends with the stream: a reader that goes away closes the channel.
    core.background(async move {
        for file in files {
            let answer = match reader.file(file).await {
                Ok(Some(content)) => Ok(ReadLogResponse {
                    path: file.to_string(),
                    content,
                }),
                Ok(None) => Err(Status::not_found(format!("the log has no {file}"))),
                Err(error) => Err(unreadable(error)),
            };
            let over = answer.is_err();
            if sender.send(answer).await.is_err() || over {
                return;
            }
        }
    });
    Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
}

fn parse(asked: &ReadLogRequest) -> Result<Vec<LogFile>, Status> {
    if asked.paths.is_empty() || asked.paths.len() > MAX_PATHS {
        let problem = format!("are 1 to {MAX_PATHS}, not {}", asked.paths.len());
        return Err(invalid(
            "the log is read in parts",
            [("paths".to_owned(), problem)],
        ));
    }
    let mut files = Vec::with_capacity(asked.paths.len());
    for (position, path) in asked.paths.iter().enumerate() {
        files.push(match path.parse() {
            Ok(LogFile::Checkpoint(_)) => LogFile::Checkpoint(asked.size),
            Ok(file) => file,
            Err(_) => {
                let problem = "is checkpoint, tile/<L>/<N>[.p/<W>] or tile/entries/<N>[.p/<W>]";
                let field = (format!("paths[{position}]"), problem.to_owned());
                return Err(invalid("the log has no such file", [field]));
            }
        });
    }
    Ok(files)
}
