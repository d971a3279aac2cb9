//! The load generator: plain h2 over mTLS, so that it takes little of the machine that it measures.

use std::{
    fs,
    future::poll_fn,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use banqiao_identity::{Expect, Identity};
use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::SendRequest;
use hdrhistogram::Histogram;
use http::{HeaderValue, Method, Request, Uri, Version};
use tokio::{net::TcpStream, task::JoinSet, time::Instant};

/// Ticks of `/proc/<pid>/stat` in a second: USER_HZ, which Linux fixes at 100 for user space.
const TICKS: f64 = 100.0;

/// One load.
pub(super) struct Load {
    pub(super) identity: Identity,
    pub(super) expect: Expect,
    pub(super) address: SocketAddr,
    pub(super) path: String,
    pub(super) to: &'static str,
    pub(super) connections: usize,
    pub(super) streams: usize,
    pub(super) payload: usize,
    pub(super) rate: Option<u64>,
    pub(super) warm_up: Duration,
    pub(super) duration: Duration,
}

/// What one run has shown.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) calls_per_s: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    /// CPU microseconds of each gateway for each call.
    pub(super) cpu_us: Vec<f64>,
}

/// What the tasks of a run share.
struct Run {
    request: Request<()>,
    message: Bytes,
    counting: AtomicBool,
    ending: AtomicBool,
    started: Instant,
    /// Calls begun, for an even pace.
    begun: AtomicU64,
    rate: Option<u64>,
}

impl Load {
    /// Runs it. `cpu` gives the seconds of CPU that each gateway has used.
    pub(super) async fn run(&self, cpu: impl Fn() -> Vec<f64>) -> Result<Sample> {
        let run = Arc::new(Run {
            request: self.request()?,
            message: message(self.payload),
            counting: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            started: Instant::now(),
            begun: AtomicU64::new(0),
            rate: self.rate,
        });
        let mut callers = JoinSet::new();
        let mut drivers = JoinSet::new();
        for _ in 0..self.connections.max(1) {
            let (sender, driver) = self.connect().await?;
            drivers.spawn(driver);
            for _ in 0..self.streams.max(1) {
                callers.spawn(call_until_the_end(sender.clone(), Arc::clone(&run)));
            }
        }
        tokio::time::sleep(self.warm_up).await;
        let before = cpu();
        let began = Instant::now();
        run.counting.store(true, Ordering::Relaxed);
        tokio::time::sleep(self.duration).await;
        run.counting.store(false, Ordering::Relaxed);
        let elapsed = began.elapsed();
        let after = cpu();
        run.ending.store(true, Ordering::Relaxed);
        let mut all = Histogram::<u64>::new(3)?;
        while let Some(done) = callers.join_next().await {
            all.add(done??)?;
        }
        drivers.abort_all();
        if all.is_empty() {
            bail!("no call was finished in the time of a measurement");
        }
        let calls = all.len() as f64;
        Ok(Sample {
            calls_per_s: calls / elapsed.as_secs_f64(),
            p50_us: all.value_at_quantile(0.5) as f64,
            p99_us: all.value_at_quantile(0.99) as f64,
            cpu_us: after
                .iter()
                .zip(&before)
                .map(|(after, before)| (after - before) * 1e6 / calls)
                .collect(),
        })
    }

    fn request(&self) -> Result<Request<()>> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = Uri::builder()
            .scheme("https")
            .authority(self.address.to_string())
            .path_and_query(self.path.clone())
            .build()?;
        let headers = request.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("te", HeaderValue::from_static("trailers"));
        headers.insert("banqiao-to", HeaderValue::from_static(self.to));
        headers.insert(
            "banqiao-purpose",
            HeaderValue::from_static("medical-treatment"),
        );
        headers.insert(
            "banqiao-basis",
            HeaderValue::from_static("statutory:benchmark"),
        );
        Ok(request)
    }

    async fn connect(
        &self,
    ) -> Result<(
        SendRequest<Bytes>,
        impl Future<Output = ()> + Send + 'static,
    )> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let config = self.identity.client_config(&self.expect)?;
        let connector = tokio_rustls::TlsConnector::from(config);
        let tls = connector
            .connect(self.expect.server_name(), stream)
            .await
            .context("TLS")?;
        let (sender, connection) = h2::client::handshake(tls).await?;
        Ok((sender, async move {
            // A broken connection shows in its calls.
            let _ = connection.await;
        }))
    }
}

fn message(payload: usize) -> Bytes {
    // Field 1, bytes.
    let mut body = BytesMut::new();
    body.put_u8(0x0a);
    prost::encoding::encode_varint(payload as u64, &mut body);
    body.put_bytes(b'b', payload);
    let mut message = BytesMut::with_capacity(body.len() + 5);
    message.put_u8(0);
    message.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
    message.extend_from_slice(&body);
    message.freeze()
}

async fn call_until_the_end(sender: SendRequest<Bytes>, run: Arc<Run>) -> Result<Histogram<u64>> {
    let mut histogram = Histogram::<u64>::new(3)?;
    while !run.ending.load(Ordering::Relaxed) {
        let due = match run.rate {
            Some(rate) => {
                let number = run.begun.fetch_add(1, Ordering::Relaxed);
                let due = run.started + Duration::from_secs_f64(number as f64 / rate as f64);
                tokio::time::sleep_until(due).await;
                due
            }
            None => Instant::now(),
        };
        call(&sender, &run).await?;
        if run.counting.load(Ordering::Relaxed) {
            // From when it was due, so that a stall counts for all that waited behind it.
            let took = u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX);
            histogram.record(took.max(1))?;
        }
    }
    Ok(histogram)
}

async fn call(sender: &SendRequest<Bytes>, run: &Run) -> Result<()> {
    let mut sender = sender.clone().ready().await?;
    let (response, mut stream) = sender.send_request(run.request.clone(), false)?;
    stream.send_data(run.message.clone(), true)?;
    let response = response.await?;
    let (parts, mut body) = response.into_parts();
    while let Some(chunk) = poll_fn(|cx| body.poll_data(cx)).await {
        let size = chunk?.len();
        body.flow_control().release_capacity(size)?;
    }
    let trailers = body.trailers().await?;
    let headers = trailers.as_ref().unwrap_or(&parts.headers);
    let status = headers
        .get("grpc-status")
        .and_then(|status| status.to_str().ok());
    if status != Some("0") {
        let message = headers
            .get("grpc-message")
            .and_then(|text| text.to_str().ok());
        bail!(
            "a call ended with status {status:?}: {}",
            message.unwrap_or_default()
        );
    }
    Ok(())
}

/// Seconds of CPU that a process has used, user and system.
pub(super) fn cpu_seconds(pid: u32) -> f64 {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return 0.0;
    };
    // The name in parentheses may hold anything; utime and stime are fields 14 and 15.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = |field: usize| -> f64 {
        rest.split_whitespace()
            .nth(field - 3)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0.0)
    };
    (ticks(14) + ticks(15)) / TICKS
}
