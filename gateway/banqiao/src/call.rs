//! `banqiao call`: calls a method through a gateway, JSON in and JSON out.

mod codec;
mod input;
mod method;

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use banqiao_proto::exchange::v1::Outcomes;
use prost_reflect::{DynamicMessage, MethodDescriptor, SerializeOptions};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    metadata::{Ascii, MetadataKey, MetadataMap, MetadataValue},
    transport::Channel,
};

use crate::{
    answer::{describe, exchange_id},
    connect::{self, TlsArgs},
    exit::{Exit, Stop},
    moment::parse_duration,
    outcomes,
    reasons::code_name,
    text::json,
};

use codec::DynamicCodec;
use input::Input;

/// Largest message that is taken, in bytes: the largest that a gateway carries.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// What the gateway has beyond the deadline to end the call itself: its status says more than ours.
const DEADLINE_GRACE: Duration = Duration::from_millis(500);

/// Arguments of `banqiao call`.
///
/// Exit codes: 0 the call ended with OK; 1 it ended with an error status; 64 the command line or the JSON is wrong;
/// 69 the gateway could not be reached; 130 interrupted.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct CallCommand {
    /// The method: package.Service/Method, or Service/Method where that is enough.
    method: String,
    /// The request: JSON, @FILE, or @- for standard input. Streaming methods take several values, one after another.
    #[arg(short, long, value_name = "JSON", default_value = "{}")]
    data: String,
    /// Whom to call: a city code, such as 370200, the SPIFFE ID of a system, or `all` (`*`) for every city at once.
    #[arg(long, value_name = "CITY", required_unless_present = "list")]
    to: Option<String>,
    /// Purpose code of the directory, such as benefit-eligibility.
    #[arg(long, required_unless_present = "list")]
    purpose: Option<String>,
    /// Legal basis: statutory:CITATION, consent:REFERENCE or emergency.
    #[arg(long, required_unless_present = "list")]
    basis: Option<String>,
    /// On whose behalf you ask: an official's or doctor's staff number.
    #[arg(long)]
    operator: Option<String>,
    /// Number of the case, visit or docket.
    #[arg(long = "case", value_name = "NUMBER")]
    case_number: Option<String>,
    /// Your city's gateway.
    #[arg(long, value_name = "HOST:PORT", env = "BANQIAO_GATEWAY")]
    gateway: String,
    #[command(flatten)]
    tls: TlsArgs,
    /// How long the call may take, such as 10s.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    deadline: Option<Duration>,
    /// Ask for the provider's receipt and write it here: `banqiao audit verify-receipt` checks it. The file must not exist.
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    /// Write what became of each city (`--to all`) here, as JSON. The file must not exist.
    #[arg(long, value_name = "FILE")]
    outcomes: Option<PathBuf>,
    /// Further metadata.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Read the method from an encoded descriptor set instead of asking the gateway.
    #[arg(long, value_name = "FILE")]
    descriptor_set: Option<PathBuf>,
    /// List the services and methods that the gateway shows you, instead of calling one. METHOD is then a part of
    /// their names.
    #[arg(long)]
    list: bool,
}

const EXAMPLES: &str = "\
Example:
  banqiao call CardService/VerifyCard -d @request.json --to 370700 \\
    --purpose benefit-eligibility --basis 'statutory:社会保险法 art. 74' \\
    --gateway gateway.qingdao:8443 --cert hall.crt --key hall.key --ca ca.crt

  banqiao call RuledService/Find -d '{}' --to all --deadline 10s ...

With `--to all` messages are printed as they come, whichever city they are from, and what became of each city on standard
error. Exit code 1 if any did not answer to the end: what it has is not known.

Metadata is ASCII on the wire: other characters of --basis, --operator and --case are percent-encoded (UTF-8).

Exit codes: 0 OK; 1 an error status; 64 wrong command line or JSON; 69 the gateway cannot be reached; 130 interrupted.";

impl CallCommand {
    /// Makes the call.
    ///
    /// # Errors
    ///
    /// [`Stop`] where nothing was sent; an error status is printed and returned as [`Exit::Failed`].
    pub async fn run(
        &self,
        out: &mut dyn io::Write,
        err: &mut dyn io::Write,
    ) -> anyhow::Result<Exit> {
        let metadata = self.metadata()?;
        let input = Input::open(&self.data)?;
        let files = self.tls.files()?;
        let channel = connect::gateway(&self.gateway, &files).await?;
        if self.list {
            return method::list(channel, &self.method, out).await;
        }
        let method = method::find(&self.method, self.descriptor_set.as_deref(), &channel).await?;
        let interrupted = tokio::signal::ctrl_c();
        tokio::select! {
            exit = self.call(channel, method, input, metadata, out, err) => exit,
            _ = interrupted => Ok(Exit::Interrupted),
        }
    }

    async fn call(
        &self,
        channel: Channel,
        method: MethodDescriptor,
        input: Input,
        metadata: MetadataMap,
        out: &mut dyn io::Write,
        err: &mut dyn io::Write,
    ) -> anyhow::Result<Exit> {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let (messages, broken) = input.messages(&method)?;
        let mut request = Request::new(messages);
        *request.metadata_mut() = metadata;
        if let Some(deadline) = self.deadline {
            request.set_timeout(deadline);
        }
        let started = Instant::now();
        let mut seen = Seen::default();
        let ended = tokio::select! {
            ended = exchange(channel, &method, &path, request, &mut seen, out) => ended?,
            () = overdue(self.deadline) => Status::deadline_exceeded("the gateway did not end the call in time"),
            // Bad JSON in the middle of a stream: the call is cancelled, which is what dropping it does.
            stop = broken_off(broken) => return Err(stop.into()),
        };
        let took = started.elapsed().as_secs_f64() * 1_000.0;
        seen.look(ended.metadata());
        if let Some(path) = &self.receipt {
            keep_receipt(path, seen.receipt.as_deref(), err)?;
        }
        if let Some(outcomes) = &seen.outcomes {
            outcomes::table(outcomes).write(err)?;
            if let Some(path) = &self.outcomes {
                let cities = serde_json::json!({ "cities": outcomes::value(outcomes) });
                let mut text = Vec::new();
                json::write_pretty(&mut text, &cities)?;
                text.push(b'\n');
                keep(path, &text)?;
            }
        }
        let exchange = seen.exchange.as_deref().unwrap_or("none");
        writeln!(
            err,
            "{} in {took:.1} ms, exchange {exchange}",
            code_name(ended.code())
        )?;
        if ended.code() == Code::Ok {
            return Ok(Exit::Done);
        }
        writeln!(err, "{}", describe(&ended))?;
        Ok(Exit::Failed)
    }

    /// The metadata of the call.
    fn metadata(&self) -> Result<MetadataMap, Stop> {
        let mut metadata = MetadataMap::new();
        let to = match self.to.as_deref() {
            Some("all") => Some("*".to_owned()),
            _ => self.to.clone(),
        };
        let reserved = [
            ("banqiao-to", "--to", &to),
            ("banqiao-purpose", "--purpose", &self.purpose),
            ("banqiao-basis", "--basis", &self.basis),
            ("banqiao-operator", "--operator", &self.operator),
            ("banqiao-case", "--case", &self.case_number),
        ];
        for (name, argument, value) in reserved {
            let Some(value) = value else { continue };
            let value = percent_encoded(value);
            let value = MetadataValue::try_from(value.as_str()).map_err(|error| {
                Stop::usage(format!("{argument} cannot be sent")).caused_by(error)
            })?;
            metadata.insert(name, value);
        }
        if self.receipt.is_some() {
            metadata.insert("banqiao-want-receipt", MetadataValue::from_static("1"));
        }
        for header in &self.headers {
            let wrong = || Stop::usage(format!("--header {header:?}: write NAME: VALUE in ASCII"));
            let (name, value) = header.split_once(':').ok_or_else(wrong)?;
            let name: MetadataKey<Ascii> = name.trim().parse().map_err(|_| wrong())?;
            metadata.append(name, value.trim().parse().map_err(|_| wrong())?);
        }
        Ok(metadata)
    }
}

/// Makes the call, prints each message as it comes, and tells the exchange id as soon as it is seen.
async fn exchange(
    channel: Channel,
    method: &MethodDescriptor,
    path: &str,
    request: Request<input::Messages>,
    seen: &mut Seen,
    out: &mut dyn io::Write,
) -> anyhow::Result<Status> {
    let mut grpc = Grpc::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
    grpc.ready().await.map_err(|error| {
        Stop::unavailable("the connection to the gateway broke").caused_by(error)
    })?;
    let path = path
        .parse()
        .map_err(|_| Stop::usage(format!("{path} is not a path")))?;
    let codec = DynamicCodec::new(method.output());
    let response = match grpc.streaming(request, path, codec).await {
        Ok(response) => response,
        Err(status) => return Ok(status),
    };
    seen.look(response.metadata());
    let mut messages = response.into_inner();
    let status = loop {
        match messages.message().await {
            Ok(Some(message)) => {
                print(out, &message, method.is_server_streaming())?;
                if !method.is_server_streaming() {
                    // What follows the one message is the status.
                    break messages.message().await.err();
                }
            }
            Ok(None) if method.is_server_streaming() => break None,
            Ok(None) => break Some(Status::internal("the answer has no message")),
            Err(status) => break Some(status),
        }
    };
    if let Ok(Some(trailers)) = messages.trailers().await {
        seen.look(&trailers);
    }
    Ok(status.unwrap_or_else(|| Status::ok("")))
}

/// What a gateway says beside the answer.
#[derive(Default)]
struct Seen {
    exchange: Option<String>,
    receipt: Option<Vec<u8>>,
    outcomes: Option<Outcomes>,
}

impl Seen {
    fn look(&mut self, metadata: &MetadataMap) {
        if self.exchange.is_none() {
            self.exchange = exchange_id(metadata);
        }
        let receipt = metadata.get_bin("banqiao-receipt-bin");
        if let Some(receipt) = receipt.and_then(|value| value.to_bytes().ok()) {
            self.receipt = Some(receipt.to_vec());
        }
        if let Some(outcomes) = outcomes::of(metadata) {
            self.outcomes = Some(outcomes);
        }
    }
}

fn keep_receipt(
    path: &Path,
    receipt: Option<&[u8]>,
    err: &mut dyn io::Write,
) -> anyhow::Result<()> {
    let Some(receipt) = receipt else {
        writeln!(err, "no receipt came with the answer")?;
        return Ok(());
    };
    keep(path, receipt)?;
    writeln!(
        err,
        "receipt of {} bytes in {}",
        receipt.len(),
        path.display()
    )?;
    Ok(())
}

/// Writes what came with an answer into a new file.
fn keep(path: &Path, bytes: &[u8]) -> Result<(), Stop> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| file.write_all(bytes));
    written.map_err(|error| {
        let message = format!("the call was made, but {} was not written", path.display());
        Stop::new(Exit::Failed, message).caused_by(error)
    })
}

/// Waits until a call should have ended; for ever without a deadline.
async fn overdue(deadline: Option<Duration>) {
    match deadline {
        Some(deadline) => tokio::time::sleep(deadline.saturating_add(DEADLINE_GRACE)).await,
        None => std::future::pending().await,
    }
}

/// Prints a message: the one answer indented, messages of a stream one a line. Fields with default values are
/// printed too, so that `false` is seen.
fn print(out: &mut dyn io::Write, message: &DynamicMessage, stream: bool) -> anyhow::Result<()> {
    let options = SerializeOptions::new().skip_default_fields(false);
    let value = message.serialize_with_options(serde_json::value::Serializer, &options)?;
    if stream {
        json::write_line(out, &value)?;
    } else {
        json::write_pretty(out, &value)?;
    }
    writeln!(out)?;
    out.flush()?;
    Ok(())
}

/// Waits until the input turns out to be wrong; for ever if it does not.
async fn broken_off(broken: input::Broken) -> Stop {
    match broken.await {
        Ok((stop, _)) => stop,
        Err(_) => std::future::pending().await,
    }
}

/// Bytes that metadata cannot carry, and `%`, as `%XX` of their UTF-8.
pub(crate) fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests;
