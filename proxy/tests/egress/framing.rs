//! N22: how long a message is, is never guessed; and bodies that are only offered.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::common::{bounded, field, flows, get, house, message, status};

/// What comes back for a plain GET where the origin answers with these bytes; `None` where it breaks
/// off.
async fn answered(answer: &str) -> Option<(u16, String)> {
    let house = house();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut client = house.client(house.http).await;
    let request = get(&format!("allowed.example:{port}"), "/");
    client.write_all(&request).await.unwrap();
    let (mut origin, _) = bounded(listener.accept()).await.unwrap();
    bounded(message(&mut origin)).await.unwrap();
    origin.write_all(answer.as_bytes()).await.unwrap();
    let (head, body) = bounded(message(&mut client)).await?;
    if status(&head) == 502 {
        assert!(field(&head, "x-cordon-decision").is_some(), "{head}");
        // Nobody knows where its next answer would begin.
        let mut rest = Vec::new();
        let _closed = bounded(origin.read_to_end(&mut rest)).await;
        assert!(rest.is_empty());
    }
    drop((client, origin));
    house.ended(1).await;
    let records = house.end().await;
    let ends: Vec<_> = flows(&records).iter().map(|flow| &flow["end"]).collect();
    let expected = if status(&head) == 502 {
        "reset"
    } else {
        "completed"
    };
    assert_eq!(ends, [expected], "{head}");
    Some((status(&head), String::from_utf8(body).unwrap()))
}

#[tokio::test]
async fn n22_an_answer_whose_length_can_be_read_in_two_ways_is_not_passed_on() {
    let chunked = "transfer-encoding: chunked\r\n";
    let body = "5\r\nhello\r\n0\r\n\r\n";
    for (fields, why) in [
        (format!("content-length: 3\r\n{chunked}"), "Content-Length"),
        (format!("content-length: 5\r\n{chunked}"), "Content-Length"),
        (format!("{chunked}content-length: 15\r\n"), "Content-Length"),
        ("transfer-encoding: gzip, chunked\r\n".into(), "coding"),
        ("transfer-encoding: identity\r\n".into(), "coding"),
        (format!("{chunked}{chunked}"), "coding"),
        ("content-length: 3\r\ncontent-length: 5\r\n".into(), "HTTP"),
        (
            "content-length: 15\r\ncontent-length: 15\r\n".into(),
            "more than one",
        ),
    ] {
        let (code, told) = answered(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}"))
            .await
            .unwrap();
        assert_eq!(code, 502, "{fields}: {told}");
        assert!(told.contains(why), "{fields}: {told}");
    }
    for (fields, body) in [
        (chunked, body),
        ("Transfer-Encoding: Chunked\r\n", body),
        ("content-length: 5\r\n", "hello"),
    ] {
        let told = answered(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}")).await;
        assert_eq!(told, Some((200, "hello".into())), "the control: {fields}");
    }
}

struct Offer {
    house: crate::common::House,
    client: TcpStream,
    origin: TcpStream,
}

/// A body is offered, and its origin has the head.
async fn offer() -> Offer {
    let house = house();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut client = house.client(house.http).await;
    let head = format!(
        "POST http://allowed.example:{port}/ HTTP/1.1\r\nhost: allowed.example:{port}\r\n\
         expect: 100-continue\r\ncontent-length: 5\r\n\r\n"
    );
    client.write_all(head.as_bytes()).await.unwrap();
    let (mut origin, _) = bounded(listener.accept()).await.unwrap();
    let head = head_of(&mut origin).await;
    assert!(head.contains("expect: 100-continue\r\n"), "{head}");
    Offer {
        house,
        client,
        origin,
    }
}

async fn head_of(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(bounded(stream.read_u8()).await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Takes the body, and answers.
async fn take(mut offer: Offer) {
    let mut body = [0; 5];
    bounded(offer.origin.read_exact(&mut body)).await.unwrap();
    assert_eq!(&body, b"hello");
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    offer.origin.write_all(answer).await.unwrap();
    assert_eq!(status(&head_of(&mut offer.client).await), 200);
    offer.house.end().await;
}

#[tokio::test]
async fn a_body_that_is_offered_is_asked_for_by_its_origin() {
    let mut offer = offer().await;
    let began = std::time::Instant::now();
    // What comes before is nothing that asks.
    let told = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
    offer.origin.write_all(told).await.unwrap();
    let head = head_of(&mut offer.client).await;
    assert_eq!(head, "HTTP/1.1 100 Continue\r\n\r\n");
    assert!(began.elapsed() < cordon_proxy::limits::CONTINUE);
    offer.client.write_all(b"hello").await.unwrap();
    take(offer).await;
}

#[tokio::test]
async fn an_origin_that_does_not_want_what_is_offered_gets_none_of_it() {
    let mut offer = offer().await;
    let answer = b"HTTP/1.1 413 Too Large\r\ncontent-length: 4\r\n\r\nmost";
    offer.origin.write_all(answer).await.unwrap();
    let (head, body) = bounded(message(&mut offer.client)).await.unwrap();
    assert_eq!(status(&head), 413, "first of all: {head}");
    assert_eq!(body, b"most");
    // One that sends it all the same is not read as another request either.
    let _closed = offer.client.write_all(b"hello").await;
    let mut rest = Vec::new();
    let _closed = bounded(offer.origin.read_to_end(&mut rest)).await;
    assert!(rest.is_empty(), "{rest:?}");
    let _closed = bounded(offer.client.read_to_end(&mut rest)).await;
    assert!(rest.is_empty(), "{rest:?}");
    let records = offer.house.end().await;
    assert_eq!(flows(&records)[0]["end"], "completed");
}

#[tokio::test]
async fn an_origin_that_does_not_know_the_expectation_gets_the_body() {
    let mut offer = offer().await;
    let head = head_of(&mut offer.client).await;
    assert_eq!(head, "HTTP/1.1 100 Continue\r\n\r\n", "after a while");
    offer.client.write_all(b"hello").await.unwrap();
    take(offer).await;
}
