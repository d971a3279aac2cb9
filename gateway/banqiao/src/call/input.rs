//! The request: JSON values from the command line, a file or standard input, as messages.

use std::{fs::File, io, thread};

use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use crate::exit::Stop;

/// Messages that wait to be sent: enough to keep the connection busy, few enough not to hold a file in memory.
const WAITING: usize = 16;

/// Tells that the input is wrong; holds the stream of messages open until the call is cancelled.
pub(super) type Broken = oneshot::Receiver<(Stop, mpsc::Sender<DynamicMessage>)>;

/// The messages of a request.
pub(super) type Messages = ReceiverStream<DynamicMessage>;

/// Where the JSON comes from.
pub(super) struct Input {
    name: String,
    source: Box<dyn io::Read + Send>,
}

impl Input {
    /// `@FILE`, `@-` or the JSON itself.
    pub(super) fn open(data: &str) -> Result<Self, Stop> {
        let Some(path) = data.strip_prefix('@') else {
            let source = Box::new(io::Cursor::new(data.as_bytes().to_vec()));
            return Ok(Self {
                name: "--data".to_owned(),
                source,
            });
        };
        if path == "-" {
            return Ok(Self {
                name: "standard input".to_owned(),
                source: Box::new(io::stdin()),
            });
        }
        let file = File::open(path)
            .map_err(|error| Stop::usage(format!("{path} cannot be read")).caused_by(error))?;
        Ok(Self {
            name: path.to_owned(),
            source: Box::new(io::BufReader::new(file)),
        })
    }

    /// The messages for a method, and where a fault in the middle of them is told.
    ///
    /// The one message of a unary request is parsed before anything is sent. A streamed request is read as it is
    /// sent, in a thread of its own, since standard input may block for ever.
    ///
    /// # Errors
    ///
    /// [`Stop`] where a unary request is not exactly one value of the right type.
    pub(super) fn messages(self, method: &MethodDescriptor) -> Result<(Messages, Broken), Stop> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let (tell, broken) = oneshot::channel();
        let kind = method.input();
        let name = self.name;
        let mut values = serde_json::Deserializer::from_reader(self.source).into_iter::<Value>();
        if method.is_client_streaming() {
            thread::spawn(move || {
                for value in values {
                    match message(&kind, value) {
                        Ok(message) => {
                            if sender.blocking_send(message).is_err() {
                                return;
                            }
                        }
                        Err(fault) => {
                            // The sender goes along: were it dropped here, the request would look whole.
                            let _ = tell.send((fault.stop(&name), sender));
                            return;
                        }
                    }
                }
            });
        } else {
            let first = values
                .next()
                .ok_or(Fault::Missing)
                .and_then(|value| message(&kind, value));
            let more = values.next().is_some();
            let first = first.and_then(|first| if more { Err(Fault::TooMany) } else { Ok(first) });
            let first = first.map_err(|fault| fault.stop(&name))?;
            // The channel is empty and has room.
            let _ = sender.try_send(first);
        }
        Ok((ReceiverStream::new(receiver), broken))
    }
}

/// What is wrong with a request.
enum Fault {
    Json(serde_json::Error),
    Message(MessageDescriptor, serde_json::Error),
    Missing,
    TooMany,
}

impl Fault {
    fn stop(self, name: &str) -> Stop {
        match self {
            Self::Json(error) => Stop::usage(format!("{name} is not JSON")).caused_by(error),
            Self::Message(kind, error) => {
                Stop::usage(format!("{name} is not a {}", kind.full_name())).caused_by(error)
            }
            Self::Missing => Stop::usage(format!("{name} holds no JSON value")),
            Self::TooMany => Stop::usage(format!(
                "{name} holds several values, but the method takes one"
            )),
        }
    }
}

/// The message that a JSON value stands for (proto3's JSON mapping); unknown fields are faults.
fn message(
    kind: &MessageDescriptor,
    value: Result<Value, serde_json::Error>,
) -> Result<DynamicMessage, Fault> {
    let value = value.map_err(Fault::Json)?;
    DynamicMessage::deserialize(kind.clone(), value)
        .map_err(|error| Fault::Message(kind.clone(), error))
}
