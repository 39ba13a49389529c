//! Sinks deliver every record to real receivers, at least once and in order.
//!
//! Skipped with a message where a receiver is missing: Debian's `rsyslog` and `rsyslog-gnutls`; a
//! Python with `opentelemetry-proto` and `moto[server]`, named by `CORDON_TEST_PYTHON`.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

mod loopback;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use cordon_audit::{Event, Log, LogOptions};
use cordon_session::{
    Config,
    config::{CheckpointConfig, SinkConfig, TelemetryConfig},
};
use cordon_sinks::{Places, Sinks, SinksStatus, Traces, backfill, backfill_manifest};
use hmac::{Hmac, KeyInit as _, Mac as _};
use loopback::{Answer, Server};
use opentelemetry::{
    Context, KeyValue,
    trace::{Span as _, TraceContextExt as _, Tracer as _},
};
use sha2::Sha256;
use tempfile::TempDir;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A log and a place for cursors.
struct World {
    directory: TempDir,
}

impl World {
    fn new(records: usize) -> Self {
        let world = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        world.write(records);
        world
    }

    /// Adds records; a checkpoint covers them when it returns.
    fn write(&self, records: usize) {
        let log = Log::open(&self.places().log, LogOptions::default()).unwrap();
        for _ in 0..records {
            log.event_later(Event::ServiceStarted);
        }
        log.close();
    }

    fn places(&self) -> Places {
        Places {
            log: self.directory.path().join("log"),
            state: self.directory.path().join("sinks"),
        }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn secret(&self, text: &str) -> String {
        let path = self.path("secret");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    }
}

/// The sinks that a `cordon.toml` configures.
fn config(text: &str) -> (Vec<SinkConfig>, CheckpointConfig) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cordon.toml");
    fs::write(&path, text).unwrap();
    let config = Config::load(&[&path]).unwrap();
    (config.sinks, config.log.checkpoints)
}

/// Serves `text` until `done`, then stops.
async fn serve(world: &World, text: &str, done: impl Fn(&SinksStatus) -> bool) -> SinksStatus {
    let (sinks, checkpoints) = config(text);
    let sinks = Sinks::start(&world.places(), &sinks, &checkpoints).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !done(&sinks.monitor().status()) {
        assert!(Instant::now() < deadline, "{:?}", sinks.monitor().status());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let status = sinks.monitor().status();
    sinks.stop(PATIENCE).await;
    status
}

fn has(count: u64) -> impl Fn(&SinksStatus) -> bool {
    move |status| {
        status
            .sinks
            .values()
            .all(|sink| sink.next >= count && sink.lag == 0)
    }
}

/// Sequences of JSON lines.
fn seqs(text: &str) -> Vec<u64> {
    text.lines()
        .map(|line| {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            record["seq"].as_u64().unwrap()
        })
        .collect()
}

fn python(module: &str) -> Option<String> {
    let python = std::env::var("CORDON_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let found = Command::new(&python)
        .args(["-c", &format!("import {module}")])
        .output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        println!("skipped: CORDON_TEST_PYTHON names no Python with {module}");
    }
    found.then_some(python)
}

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// Waits until something listens on `port`.
fn wait_for_port(port: u16) {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "nothing listens on {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_gets_everything_in_order_over_restarts_and_a_torn_line() {
    let world = World::new(700);
    let out = world.path("records.jsonl");
    let text = format!(
        "[[sinks]]\nname = \"f\"\ntype = \"file\"\npath = {out:?}\nrotate_bytes = 120000\n"
    );
    serve(&world, &text, has(700)).await;
    // What a crash leaves: half a line, for which the cursor did not go on.
    let mut file = fs::OpenOptions::new().append(true).open(&out).unwrap();
    file.write_all(b"{\"seq\":7").unwrap();
    world.write(600);
    let status = serve(&world, &text, has(1_300)).await;
    assert_eq!(status.sinks["f"].delivered, 600);
    let mut all = String::new();
    for number in (1..9).rev() {
        all += &fs::read_to_string(format!("{}.{number}", out.display())).unwrap_or_default();
    }
    assert!(!all.is_empty(), "it was rotated");
    all += &fs::read_to_string(&out).unwrap();
    assert_eq!(seqs(&all), (0..1_300).collect::<Vec<_>>());

    let (sinks, _) = config(&text);
    let manifest = backfill_manifest(&world.places(), &sinks[0], 100, 199).unwrap();
    assert_eq!((manifest.count, manifest.format.as_str()), (100, "jsonl"));
    assert_eq!(manifest.last.unwrap().seq, 199);
    assert!(backfill_manifest(&world.places(), &sinks[0], 1_299, 1_300).is_err());
    let done = backfill(&world.places(), &sinks[0], 100, 199)
        .await
        .unwrap();
    assert_eq!(done.delivered, 100);
    let again = fs::read_to_string(format!("{}.backfill-100-199", out.display())).unwrap();
    assert_eq!(seqs(&again), (100..200).collect::<Vec<_>>());
    assert!(
        backfill(&world.places(), &sinks[0], 1_299, 1_300)
            .await
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a05_another_log_is_delivered_from_its_beginning_and_one_that_was_rolled_back_is_told() {
    let world = World::new(100);
    let out = world.path("records.jsonl");
    let text = format!("[[sinks]]\nname = \"f\"\ntype = \"file\"\npath = {out:?}\n");
    serve(&world, &text, has(100)).await;

    // The same log as it was after ten records.
    let log = world.places().log;
    fs::rename(&log, world.path("whole")).unwrap();
    let early = World::new(10);
    fs::rename(early.places().log, &log).unwrap();
    let cursor = world.places().state.join("f.json");
    let kept = fs::read_to_string(&cursor).unwrap();
    let origin = |log: &Path| {
        let note = fs::read_to_string(log.join("checkpoint")).unwrap();
        note.lines().next().unwrap().to_owned()
    };
    let rolled_back = kept.replace(&origin(&world.path("whole")), &origin(&log));
    assert_ne!(rolled_back, kept);
    fs::write(&cursor, rolled_back).unwrap();
    let failed = |status: &SinksStatus| status.sinks["f"].error.is_some();
    let status = serve(&world, &text, failed).await;
    let error = status.sinks["f"].error.clone().unwrap();
    assert!(error.contains("rolled back"), "{error}");

    // Another one, shorter than what was delivered of the one before.
    fs::write(&cursor, kept).unwrap();
    let delivered = |status: &SinksStatus| status.sinks["f"].delivered >= 10;
    serve(&world, &text, delivered).await;
    let all: Vec<u64> = (0..100).chain(0..10).collect();
    let got = seqs(&fs::read_to_string(&out).unwrap());
    assert_eq!(got[..110], all[..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_fails_gets_everything_once_it_works_and_its_hmac_is_right() {
    let world = World::new(600);
    let secret = "0123456789abcdef0123456789abcdef";
    let file = world.secret(secret);
    let server = Server::start(|number, _| {
        if number < 2 {
            Answer::status(503)
        } else {
            Answer::status(204)
        }
    });
    let text = format!(
        "[[sinks]]\nname = \"w\"\ntype = \"webhook\"\nurl = \"{}/in\"\nsecret_file = {file:?}\n",
        server.url
    );
    let status = serve(&world, &text, has(600)).await;
    assert_eq!(
        (status.sinks["w"].delivered, status.sinks["w"].lost),
        (600, 0)
    );
    let requests = server.requests();
    assert!(requests.len() > 2, "it was tried again");
    let mut got = Vec::new();
    for (number, request) in requests.iter().enumerate() {
        assert!(
            request.head.starts_with("POST /in HTTP/1.1"),
            "{}",
            request.head
        );
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(request.header("x-cordon-timestamp").as_bytes());
        mac.update(b".");
        mac.update(&request.body);
        let hex: String = mac
            .finalize()
            .into_bytes()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(
            request.header("x-cordon-signature"),
            format!("sha256={hex}")
        );
        if number >= 2 {
            got.extend(seqs(std::str::from_utf8(&request.body).unwrap()));
        }
    }
    assert_eq!(got, (0..600).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_refused_for_good_is_counted_and_no_other_is_lost() {
    let world = World::new(300);
    let file = world.secret("0123456789abcdef");
    let server = Server::start(|_, body| {
        let refused = std::str::from_utf8(body).unwrap().contains("\"seq\":137,");
        Answer::status(if refused { 422 } else { 200 })
    });
    let text = format!(
        "[[sinks]]\nname = \"w\"\ntype = \"webhook\"\nurl = \"{}\"\nsecret_file = {file:?}\n",
        server.url
    );
    let status = serve(&world, &text, has(300)).await;
    assert_eq!(
        (status.sinks["w"].delivered, status.sinks["w"].lost),
        (299, 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_leave_to_a_directory_an_address_and_a_witness() {
    let world = World::new(300);
    let kept = world.path("kept");
    fs::create_dir(&kept).unwrap();
    let server = Server::start(|_, _| Answer::status(200));
    let witness = loopback::Witness::start();
    let text = format!(
        "[log.checkpoints]\nevery_seconds = 0\ndirectory = {kept:?}\nurl = \"{}/cp\"\nwitness = \"{}/w\"\nwitness_key = \"{}\"\n",
        server.url, witness.server.url, witness.key
    );
    let covers = |size: u64| {
        move |status: &SinksStatus| {
            status.checkpoints.len() == 3 && status.checkpoints.values().all(|to| to.size >= size)
        }
    };
    serve(&world, &text, covers(300)).await;
    let old = fs::read_to_string(world.places().log.join("checkpoint")).unwrap();
    world.write(200);
    serve(&world, &text, covers(500)).await;

    assert_eq!(fs::read_dir(&kept).unwrap().count(), 2);
    assert_eq!(
        server.requests().last().unwrap().body,
        fs::read(world.places().log.join("checkpoint")).unwrap()
    );
    // The second request carries a proof from the size that the witness cosigned first.
    let asked = witness.server.requests();
    let last = String::from_utf8(asked.last().unwrap().body.clone()).unwrap();
    assert!(last.starts_with("old 300\n"), "{last}");
    let key = fs::read_to_string(world.places().log.join("log.pub")).unwrap();
    cordon_audit::verify::verify_proof(&last, &key, Some(&old)).unwrap();
    // Its cosignature lies with the checkpoint, and goes into proofs.
    let evidence = cordon_audit::verify::Evidence {
        witnesses: vec![witness.key.clone()],
        ..Default::default()
    };
    let report = cordon_audit::verify::verify_with(&world.places().log, &evidence).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.witnesses.len(), 1);
    let evidence = cordon_audit::verify::Evidence {
        witnesses: vec![loopback::witness_key(9)],
        ..Default::default()
    };
    let report = cordon_audit::verify::verify_with(&world.places().log, &evidence).unwrap();
    assert!(!report.is_clean(), "another witness");
}

#[tokio::test(flavor = "multi_thread")]
async fn opentelemetrys_own_messages_parse_what_an_otlp_sink_sends() {
    let world = World::new(1_200);
    let Some(collector) = Collector::start(&world) else {
        return;
    };
    let text = format!(
        "[[sinks]]\nname = \"o\"\ntype = \"otlp\"\nurl = \"http://127.0.0.1:{}/v1/logs\"\n",
        collector.port
    );
    serve(&world, &text, has(1_200)).await;
    let got = fs::read_to_string(collector.out).unwrap();
    let got: Vec<u64> = got.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(got, (0..1_200).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn opentelemetrys_own_messages_parse_the_spans_that_are_sent() {
    let world = World::new(1);
    let Some(collector) = Collector::start(&world) else {
        return;
    };
    let config = TelemetryConfig {
        otlp: Some(format!("http://127.0.0.1:{}", collector.port)),
        ..TelemetryConfig::default()
    };
    let traces = Traces::start(&config).unwrap().unwrap();
    let tracer = traces.tracer();
    let flow = tracer.span_builder("flow");
    let flow = flow.with_attributes([KeyValue::new("cordon.decision", "decision-1")]);
    let flow = Context::new().with_span(flow.start(&tracer));
    tracer.start_with_context("connect", &flow).end();
    let id = flow.span().span_context().span_id();
    flow.span().end();
    traces.stop(PATIENCE).await;
    let got = fs::read_to_string(collector.out).unwrap();
    let lines: Vec<&str> = got.lines().collect();
    assert!(lines[0].starts_with("connect ") && lines[0].ends_with(&format!(" {id} -")));
    assert_eq!(lines[1..], [format!("flow {id} - decision-1")]);
}

/// A receiver of OTLP, and where it says what it took.
struct Collector {
    port: String,
    out: PathBuf,
    _running: Running,
}

impl Collector {
    /// None where there is no Python with the messages.
    fn start(world: &World) -> Option<Self> {
        let python = python("opentelemetry.proto.collector.logs.v1.logs_service_pb2")?;
        let out = world.path("otlp");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/verifiers/otlp.py");
        let mut child = Command::new(python)
            .arg(script)
            .arg(&out)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut port)
            .unwrap();
        Some(Self {
            port: port.trim().into(),
            out,
            _running: Running(child),
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_s3_server_holds_every_record() {
    let Some(python) = python("moto.server") else {
        return;
    };
    let world = World::new(900);
    let credentials = world.secret("AKIDEXAMPLE\nsecret\n");
    let port = free_port();
    let child = Command::new(python)
        .args([
            "-m",
            "moto.server",
            "-H",
            "127.0.0.1",
            "-p",
            &port.to_string(),
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _running = Running(child);
    wait_for_port(port);
    // The server checks that a request is signed, not by whom.
    let anyone = "AWS4-HMAC-SHA256 Credential=A/20130524/us-east-1/s3/aws4_request,SignedHeaders=host,Signature=0";
    let ask = |method: &str, path: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let host = format!("127.0.0.1:{port}");
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {anyone}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(ask("PUT", "/audit").contains(" 200 "));
    let text = format!(
        "[[sinks]]\nname = \"s\"\ntype = \"s3\"\nendpoint = \"http://127.0.0.1:{port}\"\nbucket = \"audit\"\nregion = \"us-east-1\"\ncredentials_file = {credentials:?}\n"
    );
    serve(&world, &text, has(900)).await;
    let list = ask("GET", "/audit?list-type=2");
    let key = list
        .split("<Key>")
        .nth(1)
        .unwrap()
        .split("</Key>")
        .next()
        .unwrap();
    assert!(
        key.starts_with("cordon/cordon-") && key.ends_with("-00000000000000000899.jsonl"),
        "{key}"
    );
    let object = ask("GET", &format!("/audit/{key}"));
    let (_, body) = object.split_once("\r\n\r\n").unwrap();
    assert_eq!(seqs(body), (0..900).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn rsyslog_with_tls_takes_every_record_and_an_untrusted_one_none() {
    let module = Path::new("/usr/lib/x86_64-linux-gnu/rsyslog/lmnsd_gtls.so");
    if !Path::new("/usr/sbin/rsyslogd").exists() || !module.exists() {
        println!("skipped: install rsyslog and rsyslog-gnutls");
        return;
    }
    let world = World::new(700);
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let (cert, key, out) = (
        world.path("cert.pem"),
        world.path("key.pem"),
        world.path("messages"),
    );
    fs::write(&cert, certified.cert.pem()).unwrap();
    fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
    let port = free_port();
    let conf = world.path("rsyslog.conf");
    fs::write(&conf, format!(
        "global(workDirectory={state:?} maxMessageSize=\"64k\" defaultNetstreamDriverCAFile={cert:?} \
         defaultNetstreamDriverCertFile={cert:?} defaultNetstreamDriverKeyFile={key:?})\n\
         module(load=\"imtcp\" streamDriver.name=\"gtls\" streamDriver.mode=\"1\" streamDriver.authMode=\"anon\")\n\
         input(type=\"imtcp\" port=\"{port}\")\n\
         template(name=\"all\" type=\"string\" string=\"%pri% %msgid% %structured-data% %msg%\\n\")\n\
         *.* action(type=\"omfile\" file={out:?} template=\"all\")\n",
        state = world.directory.path(),
    )).unwrap();
    let child = Command::new("/usr/sbin/rsyslogd")
        .args(["-n", "-f"])
        .arg(&conf)
        .arg("-i")
        .arg(world.path("pid"))
        .spawn()
        .unwrap();
    let _running = Running(child);
    wait_for_port(port);

    let sink =
        format!("[[sinks]]\nname = \"s\"\ntype = \"syslog\"\naddress = \"localhost:{port}\"\n");
    let status = serve(&world, &sink, |status| status.sinks["s"].failures > 0).await;
    assert_eq!(
        status.sinks["s"].delivered, 0,
        "its certificate is not the system's"
    );

    serve(&world, &format!("{sink}ca = {cert:?}\n"), has(700)).await;
    let deadline = Instant::now() + PATIENCE;
    let lines = loop {
        let text = fs::read_to_string(&out).unwrap_or_default();
        if text.matches("[cordon@32473").count() >= 700 || Instant::now() > deadline {
            break text;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let got: Vec<u64> = lines
        .lines()
        .filter_map(|line| {
            line.split_once("[cordon@32473 seq=\"")?
                .1
                .split_once('"')?
                .0
                .parse()
                .ok()
        })
        .collect();
    assert_eq!(got, (0..700).collect::<Vec<_>>());
    assert!(
        lines.contains("110 start [cordon@32473 "),
        "{}",
        &lines[..300]
    );
}
