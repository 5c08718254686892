//! Requests against a server of a few lines.
//!
//! Each byte that it sends is under the test's control: an answer that breaks off, hangs, never
//! ends or redirects for ever is easier to write down than to get from a library that does its
//! best to be correct. Nothing leaves the loopback interface.

use tocktower_core::run::ResultCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// Answers each connection with `answer`; what came in is sent to the receiver. An empty answer
/// keeps the connection open and silent.
async fn serve(answer: impl Into<String>) -> (String, mpsc::Receiver<String>) {
    let answer = answer.into();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (seen, requests) = mpsc::channel(16);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(answer_one(stream, answer.clone(), seen.clone()));
        }
    });
    (url, requests)
}

async fn answer_one(mut stream: TcpStream, answer: String, seen: mpsc::Sender<String>) {
    let mut request = Vec::new();
    loop {
        stream.read_buf(&mut request).await.unwrap();
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
            seen.send(text).await.unwrap();
            break;
        }
    }
    if answer.is_empty() {
        std::future::pending::<()>().await;
    }
    stream.write_all(answer.as_bytes()).await.unwrap();
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    )
}

fn request(url: &str) -> Http {
    Http {
        method: "POST".to_owned(),
        url: url.to_owned(),
        headers: BTreeMap::new(),
        body: None,
        success_status: vec![(200, 299)],
    }
}

#[tokio::test]
async fn the_client_is_there_before_the_first_request_asks_for_it() {
    let bench = Bench::new();
    let prepared = async {
        while !bench.executors.shared.http.is_prepared() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, prepared).await.expect("it is made in time");
}

#[tokio::test]
async fn a_target_learns_which_run_calls() {
    let (url, mut requests) = serve(answer("200 OK", "", "done")).await;
    let mut bench = Bench::new();
    let mut http = request(&format!("{url}/hook?x=1"));
    http.body = Some("{}".to_owned());
    http.headers = BTreeMap::from([
        ("Content-Type".to_owned(), "application/json".to_owned()),
        ("idempotency-key".to_owned(), "mine".to_owned()),
    ]);
    let mut run_id = String::new();
    let ticket = bench.start_with(Action::Http(http), |run| run_id = run.run.to_string());
    let finished = bench.end(ticket).await;
    assert_eq!(finished.end, AttemptEnd::Succeeded);
    assert_eq!(finished.code, Some(ResultCode::HttpStatus(200)));
    assert_eq!(stdout(&finished), "done");
    let seen = requests.recv().await.unwrap();
    assert!(seen.starts_with("POST /hook?x=1 HTTP/1.1\r\n") && seen.ends_with("\r\n\r\n{}"));
    for line in [
        &format!("idempotency-key: {run_id}"),
        "tocktower-task: default/job",
        "tocktower-instant: 2026-11-25T10:30:00Z",
        "tocktower-attempt: 2",
        "tocktower-fence: 77",
        "traceparent: 00-",
        "content-type: application/json",
    ] {
        assert_eq!(seen.matches(line).count(), 1, "{line} in {seen}");
    }
}

#[tokio::test]
async fn a_triggers_payload_takes_the_place_of_the_body() {
    let (url, mut requests) = serve(answer("200 OK", "", "")).await;
    let mut bench = Bench::new();
    let mut http = request(&url);
    http.body = Some("always".to_owned());
    let ticket =
        bench.start_with(Action::Http(http), |run| run.payload = Some("this time".to_owned()));
    bench.end(ticket).await;
    assert!(requests.recv().await.unwrap().ends_with("\r\n\r\nthis time"));
}

#[tokio::test]
async fn the_status_decides() {
    let mut bench = Bench::new();
    let (url, _requests) = serve(answer("500 Oops", "", "trace")).await;
    let finished = bench.outcome(Action::Http(request(&url))).await;
    assert_eq!(reason(&finished), "HTTP status 500");
    assert_eq!(finished.code, Some(ResultCode::HttpStatus(500)));
    assert_eq!(stdout(&finished), "trace");
    let mut http = request(&url);
    http.success_status = vec![(204, 204), (500, 599)];
    assert_eq!(bench.outcome(Action::Http(http)).await.end, AttemptEnd::Succeeded);
}

#[tokio::test]
async fn a_target_that_hangs_times_out() {
    let mut bench = Bench::new();
    let timeout = Duration::from_millis(150);
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nsome";
    for (text, code) in [("", None), (cut, Some(ResultCode::HttpStatus(200)))] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        });
        let ticket =
            bench.start_with(Action::Http(request(&url)), |run| run.timeout = Some(timeout));
        let finished = bench.end(ticket).await;
        assert_eq!(finished.end, AttemptEnd::TimedOut { after: timeout });
        assert_eq!(finished.code, code);
        server.abort();
    }
}

#[tokio::test]
async fn a_request_can_be_cancelled() {
    let (url, mut requests) = serve("").await;
    let mut bench = Bench::new();
    let ticket = bench.start(Action::Http(request(&url)));
    requests.recv().await.unwrap();
    assert!(bench.executors.cancel(ticket));
    assert_eq!(bench.end(ticket).await.end, AttemptEnd::Cancelled);
}

#[tokio::test]
async fn a_refused_connection_and_a_broken_answer_say_so() {
    let mut bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let secret = format!("http://{address}/?token=secret");
    let finished = bench.outcome(Action::Http(request(&secret))).await;
    let expected = format!("{address}: could not connect: Connection refused");
    assert!(reason(&finished).starts_with(&expected), "{}", reason(&finished));
    assert!(!reason(&finished).contains("secret"));
    let (url, _requests) = serve("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nsome").await;
    let finished = bench.outcome(Action::Http(request(&url))).await;
    assert!(reason(&finished).contains("broke off"), "{}", reason(&finished));
}

#[tokio::test]
async fn an_answer_without_end_is_cut() {
    let mut bench = Bench::new();
    let (url, _requests) = serve(answer("200 OK", "", &"x".repeat(3_000_000))).await;
    let finished = bench.outcome(Action::Http(request(&url))).await;
    assert_eq!(finished.end, AttemptEnd::Succeeded);
    let kept = finished.output.stdout;
    assert_eq!((kept.head.len(), kept.tail.len()), (OUTPUT_BYTES_MAX, OUTPUT_BYTES_MAX));
    assert!(kept.dropped < 2_000_000);
}

#[tokio::test]
async fn redirects_are_followed_but_not_for_ever() {
    let mut bench = Bench::new();
    let (target, _requests) = serve(answer("200 OK", "", "there")).await;
    let (url, _seen) = serve(answer("302 Found", &format!("location: {target}\r\n"), "")).await;
    assert_eq!(stdout(&bench.outcome(Action::Http(request(&url))).await), "there");
    let (url, mut hops) = serve(answer("302 Found", "location: /again\r\n", "")).await;
    let finished = bench.outcome(Action::Http(request(&url))).await;
    assert!(reason(&finished).contains("more than 5 redirects"), "{}", reason(&finished));
    let mut count = 0;
    while hops.try_recv().is_ok() {
        count += 1;
    }
    assert_eq!(count, 6);
}

#[tokio::test]
async fn metadata_addresses_are_refused_directly_by_name_and_by_redirect() {
    let mut bench = Bench::new();
    let direct = bench.outcome(Action::Http(request("http://169.254.169.254/latest"))).await;
    assert!(reason(&direct).contains("169.254.169.254 is a link-local or metadata address"));
    assert_eq!(direct.started_at, None);
    for target in
        ["http://169.254.169.254/", "http://[::ffff:169.254.169.254]/", "file:///etc/passwd"]
    {
        let (url, _seen) = serve(answer("302 Found", &format!("location: {target}\r\n"), "")).await;
        let finished = bench.outcome(Action::Http(request(&url))).await;
        assert!(matches!(finished.end, AttemptEnd::Failed { .. }), "{target}: {finished:?}");
    }
}

#[tokio::test]
async fn requests_that_make_no_sense_never_begin() {
    let mut bench = Bench::new();
    for url in ["ftp://a/", "/relative", "http://", "unix:/run/x"] {
        let finished = bench.outcome(Action::Http(request(url))).await;
        assert!(reason(&finished).starts_with("url "), "{}", reason(&finished));
        assert_eq!(finished.started_at, None);
    }
    let mut http = request("http://127.0.0.1/");
    http.method = "PO ST".to_owned();
    let finished = bench.outcome(Action::Http(http.clone())).await;
    assert_eq!(reason(&finished), "method \"PO ST\" is not valid");
    http.method = "GET".to_owned();
    http.headers.insert("X-A".to_owned(), "a\nb".to_owned());
    assert_eq!(reason(&bench.outcome(Action::Http(http)).await), "header \"X-A\" is not valid");
}
