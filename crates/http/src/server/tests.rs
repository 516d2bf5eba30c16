//! Whatever a client leaves out, it is gone after the time that has a name; and one that does its part is served.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::rejection::BytesRejection;
use axum::routing::{get, post};
use pharos_base::{ByteSize, HumanDuration};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::*;
use crate::conn::BodyTooSlow;

/// Short enough for a test, long enough for a busy machine.
const PAUSE: Duration = Duration::from_millis(150);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

struct Served {
    address: SocketAddr,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    gate: Arc<ConnectionGate>,
}

impl Served {
    async fn stop(mut self) {
        self.stop.cancel();
        self.tasks.join_next().await.unwrap().unwrap();
    }
}

fn hasty() -> ConnectionSettings {
    let pause = HumanDuration(PAUSE);
    ConnectionSettings {
        head_timeout: pause,
        handshake_timeout: pause,
        body_pause_max: pause,
        body_rate_min: ByteSize(1 << 10),
        idle_max: pause,
        age_grace: pause,
        write_stall_max: pause,
        ..ConnectionSettings::default()
    }
}

async fn start(connections: ConnectionSettings, router: Router) -> Served {
    let listener = bind("127.0.0.1:0", "test").await.unwrap();
    let address = listener.local_addr().unwrap();
    let gate = ConnectionGate::new(connections, ConnectionMetrics::default());
    let settings = ListenerSettings { port: "test", tls: None, gate: Arc::clone(&gate) };
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    tasks.spawn(serve(listener, router, settings, stop.clone()));
    Served { address, stop, tasks, gate }
}

/// A route that reads the body, and one that answers more than any buffer holds.
fn router() -> Router {
    let read = |body: Result<bytes::Bytes, BytesRejection>| async move {
        match body {
            Ok(body) => format!("{} bytes", body.len()),
            Err(error) => {
                let mut cause: &dyn std::error::Error = &error;
                while let Some(next) = cause.source() {
                    cause = next;
                }
                assert!(cause.downcast_ref::<BodyTooSlow>().is_some(), "{cause:?}");
                format!("cut: {cause}")
            }
        }
    };
    let known = |axum::Extension(connection): axum::Extension<Connection>| async move { connection.admit() };
    Router::new()
        .route("/", post(read))
        .route("/known", get(known))
        .route("/large", get(|| async { vec![b'x'; 64 << 20] }))
}

/// What comes until the server closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.expect("it is closed");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_stop_lets_the_request_under_way_finish() {
    let (stop, started) = (CancellationToken::new(), CancellationToken::new());
    let (stop_seen, begun) = (stop.clone(), started.clone());
    let slow = get(move || async move {
        begun.cancel();
        stop_seen.cancelled().await;
        "done"
    });
    let mut served = start(ConnectionSettings::default(), Router::new().route("/slow", slow)).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    started.cancelled().await;
    stop.cancel();
    served.stop.cancel();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
    served.tasks.join_next().await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let settings = ConnectionSettings { drain_max: HumanDuration(PAUSE), ..ConnectionSettings::default() };
    let begun = CancellationToken::new();
    let seen = begun.clone();
    let endless = get(move || async move {
        seen.cancel();
        std::future::pending::<()>().await;
    });
    let served = start(settings, Router::new().route("/", endless)).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    begun.cancelled().await;
    served.stop().await;
    assert_eq!(rest(&mut stream).await, "");
}

#[tokio::test]
async fn clients_that_say_nothing_or_not_enough_are_cut() {
    let served = start(hasty(), router()).await;
    let said: [&[u8]; 6] =
        [b"", b"PRI * HT", b"POST / HTTP/1.1\r\nHos", PREFACE, &[PREFACE, SETTINGS].concat(), b"\x16\x03\x01"];
    for said in said {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(said).await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(!answer.contains("200"), "{said:?}: {answer}");
    }
    served.stop().await;
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_cut_and_an_idle_connection_is_closed() {
    let served = start(hasty(), router()).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    let (mut reader, mut writer) = stream.into_split();
    let mut slow = JoinSet::new();
    slow.spawn(async move {
        for byte in b"GET /known HTTP/1.1\r\nX: ".iter().chain(std::iter::repeat(&b'y')) {
            if writer.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(PAUSE / 5).await;
        }
    });
    let mut answer = Vec::new();
    let _ = reader.read_to_end(&mut answer).await;
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP/1.1"), "no second answer");
    drop(slow);
    let mut idle = TcpStream::connect(served.address).await.unwrap();
    idle.write_all(b"GET /known HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert!(rest(&mut idle).await.starts_with("HTTP/1.1 200"));
    served.stop().await;
}

#[tokio::test]
async fn a_body_that_pauses_or_trickles_is_cut_and_its_reader_is_told_why() {
    let settings = ConnectionSettings { body_pause_max: HumanDuration(PAUSE * 2), ..hasty() };
    let served = start(settings, router()).await;
    let mut paused = TcpStream::connect(served.address).await.unwrap();
    paused.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc").await.unwrap();
    let answer = rest(&mut paused).await;
    assert!(answer.ends_with("connections.body_pause_max = 0.3s"), "{answer}");

    let mut trickling = TcpStream::connect(served.address).await.unwrap();
    trickling.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n").await.unwrap();
    let (mut reader, mut writer) = trickling.into_split();
    let mut slow = JoinSet::new();
    slow.spawn(async move {
        while writer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(PAUSE / 5).await;
        }
    });
    let mut answer = Vec::new();
    let _ = reader.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.ends_with("connections.body_rate_min = 1024 bytes a second"), "{answer}");
    served.stop().await;
}

#[tokio::test]
async fn a_client_that_takes_no_answer_is_cut() {
    let served = start(hasty(), router()).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    tokio::time::sleep(PAUSE * 4).await;
    let mut read = 0;
    let mut buffer = vec![0; 1 << 20];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        read += length;
    }
    assert!(read < 64 << 20, "the rest never came");
    served.stop().await;
}

#[tokio::test]
async fn a_peer_that_opens_no_window_is_cut() {
    let served = start(hasty(), router()).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    // SETTINGS_INITIAL_WINDOW_SIZE = 0, then HEADERS of `GET /large` with literal fields that HPACK's static table names.
    let no_window = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0];
    let fields = [&[0x82, 0x86, 0x04, 6][..], b"/large", &[0x41, 1], b"x"].concat();
    let head = [&[0, 0, fields.len() as u8, 1, 5, 0, 0, 0, 1][..], &fields].concat();
    stream.write_all(&[PREFACE, &no_window, &head].concat()).await.unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(20), read).await.expect("it is closed");
    assert!(answer.len() < 1_000, "{} bytes: heads and settings only", answer.len());
    served.stop().await;
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes()[..], payload].concat()
}

#[tokio::test]
async fn floods_of_resets_and_of_endless_heads_are_cut_at_once() {
    let served = start(ConnectionSettings::default(), router()).await;
    let fields = [&[0x82, 0x86, 0x04, 6][..], b"/large", &[0x41, 1], b"x"].concat();
    let resets = (0..2_000_u32).flat_map(|number| {
        let stream = 2 * number + 1;
        [frame(1, 5, stream, &fields), frame(3, 0, stream, &8_u32.to_be_bytes())].concat()
    });
    let field = [&[0x00, 1, b'a', 100][..], &[b'b'; 100]].concat();
    let endless = (0..20_000).flat_map(|_| frame(9, 0, 1, &field));
    for flood in [resets.collect::<Vec<u8>>(), frame(1, 1, 1, &fields).into_iter().chain(endless).collect()] {
        let stream = TcpStream::connect(served.address).await.unwrap();
        let (mut reader, mut writer) = stream.into_split();
        let mut sending = JoinSet::new();
        sending.spawn(async move {
            // Fails when it is cut.
            let _ = writer.write_all(&[PREFACE, SETTINGS, &flood].concat()).await;
            writer
        });
        let mut answer = Vec::new();
        let read = reader.read_to_end(&mut answer);
        let _ = tokio::time::timeout(Duration::from_secs(20), read).await.expect("it is closed");
    }
    served.stop().await;
}

/// HEADERS of `POST /`, whose body is still to come.
fn post_without_body(flags: u8) -> Vec<u8> {
    frame(1, flags, 1, &[&[0x83, 0x86, 0x84][..], &[0x41, 1], b"x"].concat())
}

/// What is said at once, and what follows piece by piece until the server has enough.
async fn trickle(address: SocketAddr, said: &[u8], piece: &[u8]) -> String {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let (said, piece) = (said.to_vec(), piece.to_vec());
    let mut sending = JoinSet::new();
    sending.spawn(async move {
        // Both fail when the connection is cut.
        if writer.write_all(&said).await.is_ok() {
            while writer.write_all(&piece).await.is_ok() {
                tokio::time::sleep(PAUSE / 5).await;
            }
        }
    });
    let mut answer = Vec::new();
    let read = reader.read_to_end(&mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(20), read).await.expect("it is closed");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Every slow way in that looks busy: bytes keep coming, and a request does not.
#[tokio::test]
async fn connections_that_are_kept_busy_with_nothing_are_cut() {
    let served = start(hasty(), router()).await;
    let begun = [PREFACE, SETTINGS].concat();
    let (ping, window) = (frame(6, 0, 0, &[7; 8]), frame(8, 0, 0, &1_u32.to_be_bytes()));
    let (acknowledged, half_head) = (frame(4, 1, 0, &[]), [&begun[..], &post_without_body(1)].concat());
    let chunked = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (what, said, piece) in [
        ("line feeds before a request", &b""[..], &b"\r\n"[..]),
        ("the preface of HTTP/2 and then a head of HTTP/1", b"PRI * HTTP/2.0\r\n\r\nX", b"y"),
        ("pings", &begun, &ping),
        ("windows that grow", &begun, &window),
        ("settings that are acknowledged again and again", &begun, &acknowledged),
        ("an endless head in small frames", &half_head, &frame(9, 0, 1, &[])),
        ("an endless chunk's name", &[&chunked[..], b"1;"].concat(), b"x"),
        ("an endless chunk's size", chunked, b"0"),
    ] {
        let answer = trickle(served.address, said, piece).await;
        assert!(!answer.contains(" bytes"), "{what}: {answer}");
    }
    served.stop().await;
}

/// The body of an HTTP/2 request is paced as one of HTTP/1 is, whatever else its connection carries.
#[tokio::test]
async fn a_body_over_http_2_that_pauses_or_trickles_is_cut_and_its_reader_is_told_why() {
    let settings = ConnectionSettings { body_pause_max: HumanDuration(Duration::from_secs(2)), ..hasty() };
    let served = start(settings, router()).await;
    let said = [PREFACE, SETTINGS, &post_without_body(4)].concat();
    let ping = frame(6, 0, 0, &[7; 8]);
    for (piece, expected) in [
        (&ping, "connections.body_pause_max = 2s"),
        (&frame(0, 0, 1, b"x"), "connections.body_rate_min = 1024 bytes a second"),
    ] {
        let answer = trickle(served.address, &said, piece).await;
        assert!(answer.contains(expected), "{answer}");
    }
    served.stop().await;
}

/// A peer that never acknowledges our settings is served, and holds nothing by it.
#[tokio::test]
async fn settings_that_nobody_acknowledges_hold_nothing() {
    let served = start(hasty(), router()).await;
    let fields = [&[0x82, 0x86, 0x04, 6][..], b"/known", &[0x41, 1], b"x"].concat();
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(&[PREFACE, SETTINGS, &frame(1, 5, 1, &fields)].concat()).await.unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(20), read).await.expect("it is closed");
    // HEADERS of stream 1 with `:status: 200`, the eighth entry of HPACK's static table.
    let is_answer = |window: &[u8]| window[3] == 1 && window[8] == 1 && window[9] == 0x88;
    assert!(answer.windows(10).any(is_answer), "{answer:?}");
    served.stop().await;
}

#[tokio::test]
async fn a_connection_takes_no_new_requests_after_its_age_and_finishes_the_one_it_has() {
    let (go_on, begun) = (CancellationToken::new(), CancellationToken::new());
    let (wait, seen) = (go_on.clone(), begun.clone());
    let slow = get(move || async move {
        seen.cancel();
        wait.cancelled().await;
        "done"
    });
    let age = HumanDuration(PAUSE);
    let settings = ConnectionSettings { age_max: age, age_grace: age, ..ConnectionSettings::default() };
    let served = start(settings, Router::new().route("/", slow)).await;
    let stream = TcpStream::connect(served.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let mut client = JoinSet::new();
    client.spawn(connection);
    let request = || Request::get("http://x/").body(Body::empty()).unwrap();
    let answer = sender.send_request(request());
    begun.cancelled().await;
    tokio::time::sleep(PAUSE * 4).await;
    assert!(sender.send_request(request()).await.is_err(), "it was told to go away");
    go_on.cancel();
    let answer = answer.await.unwrap();
    assert_eq!(axum::body::to_bytes(Body::new(answer.into_body()), 9).await.unwrap(), "done");
    drop(sender);
    client.join_next().await.unwrap().unwrap().unwrap();
    served.stop().await;
}

#[tokio::test]
async fn silent_sockets_keep_nobody_out() {
    let settings = ConnectionSettings {
        max: 40,
        per_address_max: 8,
        head_timeout: HumanDuration(PAUSE),
        idle_max: HumanDuration(Duration::from_mins(10)),
        ..ConnectionSettings::default()
    };
    let served = start(settings, router()).await;
    let mut known = TcpStream::connect(served.address).await.unwrap();
    let ask = b"GET /known HTTP/1.1\r\nHost: x\r\n\r\n";
    known.write_all(ask).await.unwrap();
    let mut answer = [0; 12];
    known.read_exact(&mut answer).await.unwrap();
    // One address opens what it can, and says just enough of HTTP/2 to be idle and not silent.
    let mut silent = Vec::new();
    for host in 2..12_u8 {
        for _ in 0..10 {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::from(([127, 0, 0, host], 0))).unwrap();
            let mut stream = socket.connect(served.address).await.unwrap();
            let _ = stream.write_all(&[PREFACE, SETTINGS].concat()).await;
            silent.push(stream);
        }
    }
    let mut next = TcpStream::connect(served.address).await.unwrap();
    next.write_all(b"GET /known HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    assert!(rest(&mut next).await.starts_with("HTTP/1.1 200"), "a newcomer gets in");
    known.write_all(ask).await.unwrap();
    let mut answer = [0; 64];
    assert!(known.read(&mut answer).await.unwrap() > 0, "who is known stays");
    assert!(served.gate.settings().max >= served.gate.open(), "{}", served.gate.open());
    drop(silent);
    served.stop().await;
}

/// A port without TLS, a connection that it has accepted, and its other end.
async fn accepted() -> (Arc<OpenPort>, TcpStream, Place, TcpStream) {
    let settings = ListenerSettings::default();
    let place = settings.gate.enter("test", [127, 0, 0, 1].into()).await.unwrap();
    let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
    let port = OpenPort { router: router(), settings, stop, abort, told: Default::default() };
    let listener = bind("127.0.0.1:0", "test").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (Arc::new(port), listener.accept().await.unwrap().0, place, client)
}

#[tokio::test]
async fn a_silent_connection_is_heard_only_once_it_speaks() {
    let (port, stream, place, mut client) = accepted().await;
    let mut hearing = std::pin::pin!(port.hears(&stream, &place));
    assert!(tokio::time::timeout(PAUSE, &mut hearing).await.is_err(), "nothing has come");
    client.write_all(b"P").await.unwrap();
    assert!(tokio::time::timeout(PAUSE * 20, &mut hearing).await.expect("it spoke"));
    let mut first = [0; 2];
    assert_eq!(stream.try_read(&mut first).unwrap(), 1, "what was heard is left to who serves");
}

/// Thousands may be open: what each takes by itself shall not grow unseen.
#[tokio::test]
async fn a_connection_takes_little_memory() {
    let (port, stream, place, client) = accepted().await;
    let peer = client.local_addr().unwrap();
    let silent = Arc::clone(&port).receive(stream, peer, place);
    assert!(size_of_val(&silent) <= 1 << 10, "before it says anything: {}", size_of_val(&silent));
    drop(silent);
    let (port, stream, place, client) = accepted().await;
    let retire = CancellationToken::new();
    let plain = Secured { over_tls: false, certificate: None, lifetime_max: None, speaks_http2: false, retire };
    let served = port.run(stream, client.local_addr().unwrap(), place, plain, Vitals::new());
    assert!(size_of_val(&served) <= 3 << 10, "hyper's connection once, and what watches it: {}", size_of_val(&served));
}

#[tokio::test]
async fn a_full_server_still_stops() {
    let served = start(ConnectionSettings { max: 1, ..ConnectionSettings::default() }, router()).await;
    let _held = TcpStream::connect(served.address).await.unwrap();
    let _waiting = TcpStream::connect(served.address).await.unwrap();
    served.stop().await;
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let first = bind("127.0.0.1:0", "queries").await.unwrap();
    let address = first.local_addr().unwrap().to_string();
    let error = bind(&address, "queries").await.unwrap_err().to_string();
    assert_eq!(error, format!("cannot listen on {address} for queries"));
}

#[tokio::test]
async fn a_client_that_asks_whether_to_send_is_not_told_to_send_what_is_refused() {
    let refuse = post(|request: axum::extract::Request| async move {
        let (parts, body) = request.into_parts();
        crate::Leftover::of(&parts).discard(body).await;
        http::StatusCode::UNAUTHORIZED
    });
    let served = start(ConnectionSettings::default(), Router::new().route("/", refuse)).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    served.stop().await;
}
