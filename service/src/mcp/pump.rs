//! Moves lines between a client, the relay and a server until one of them is gone.

use std::io;

use cordon_runtime::mcp::{Judge, Out, Relay};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
    task::JoinSet,
};

use super::SERVER_LINE_BYTES;

/// How it ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ended {
    /// The client closed its side.
    Client,
    /// The server closed its side.
    Server,
    /// One of them does what cannot be followed, in words.
    Broken(String),
}

/// The two ends of a side.
pub struct Side<R, W> {
    /// What it says.
    pub lines: R,
    /// Where it is told.
    pub sink: W,
}

/// Runs until the end. What is on its way to the client is still written.
pub async fn pump<CR, CW, SR, SW>(
    mut relay: Relay,
    judge: &impl Judge,
    client: Side<CR, CW>,
    server: Side<SR, SW>,
) -> Ended
where
    CR: AsyncBufRead + Unpin + Send + 'static,
    SR: AsyncBufRead + Unpin + Send + 'static,
    CW: AsyncWrite + Unpin + Send + 'static,
    SW: AsyncWrite + Unpin + Send + 'static,
{
    let mut tasks = JoinSet::new();
    let (from_client, mut client_lines) = mpsc::channel(AHEAD);
    let (from_server, mut server_lines) = mpsc::channel(AHEAD);
    tasks.spawn(read(client.lines, from_client, CLIENT_LINE_BYTES));
    tasks.spawn(read(server.lines, from_server, SERVER_LINE_BYTES));
    let (to_client, for_client) = mpsc::channel(WAITING);
    let (to_server, for_server) = mpsc::channel(WAITING);
    let client_writer = tokio::spawn(write(client.sink, for_client));
    tasks.spawn(write(server.sink, for_server));
    let ended = loop {
        let out = tokio::select! {
            line = client_lines.recv() => match line {
                Some(Ok(line)) => relay.from_client(judge, &line).await,
                Some(Err(error)) => break Ended::Broken(format!("the client: {error}")),
                None => break Ended::Client,
            },
            line = server_lines.recv() => match line {
                Some(Ok(line)) => relay.from_server(judge, &line).await,
                Some(Err(error)) => break Ended::Broken(format!("the server: {error}")),
                None => break Ended::Server,
            },
        };
        if let Err(why) = send(out, &to_client, &to_server).await {
            break why;
        }
    };
    if ended != Ended::Client {
        let last = relay.server_is_gone();
        // Where the client is gone too, nobody waits.
        let _told = send(last, &to_client, &to_server).await;
    }
    drop((to_client, to_server));
    let _written = client_writer.await;
    // Readers may wait for a line that never comes; the server's end of input has been closed by
    // its writer or goes with it here.
    tasks.abort_all();
    ended
}

async fn send(
    out: Vec<Out>,
    to_client: &mpsc::Sender<String>,
    to_server: &mpsc::Sender<String>,
) -> Result<(), Ended> {
    for one in out {
        match one {
            Out::Client(line) => to_client.send(line).await.map_err(|_| Ended::Client)?,
            // Not waited for: a server that writes before it reads would wait for us too.
            Out::Server(line) => to_server.try_send(line).map_err(|error| match error {
                mpsc::error::TrySendError::Closed(_) => Ended::Server,
                mpsc::error::TrySendError::Full(_) => Ended::Broken(format!(
                    "the server: {WAITING} messages wait and it reads none"
                )),
            })?,
        }
    }
    Ok(())
}

async fn read<R: AsyncBufRead + Unpin>(
    mut from: R,
    to: mpsc::Sender<io::Result<Vec<u8>>>,
    most: usize,
) {
    loop {
        let line = match line(&mut from, most).await {
            Ok(Some(line)) if line.iter().all(u8::is_ascii_whitespace) => continue,
            Ok(Some(line)) => Ok(line),
            Ok(None) => return,
            Err(error) => Err(error),
        };
        let over = line.is_err();
        if to.send(line).await.is_err() || over {
            return;
        }
    }
}

/// The next line without its end. A last one without an end is no message.
async fn line<R: AsyncBufRead + Unpin>(from: &mut R, most: usize) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    loop {
        let buffer = from.fill_buf().await?;
        if buffer.is_empty() {
            return Ok(None);
        }
        let (taken, ends) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at, true),
            None => (buffer.len(), false),
        };
        line.extend_from_slice(buffer.get(..taken).unwrap_or_default());
        from.consume(taken + usize::from(ends));
        if line.len() > most {
            let why = format!("a message has more than {most} bytes");
            return Err(io::Error::other(why));
        }
        if ends {
            return Ok(Some(line));
        }
    }
}

/// Ends, and with it closes the sink, when nobody sends any more.
async fn write<W: AsyncWrite + Unpin>(mut to: W, mut from: mpsc::Receiver<String>) {
    while let Some(mut line) = from.recv().await {
        line.push('\n');
        if to.write_all(line.as_bytes()).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
    // Whoever reads it is gone where this fails.
    let _closed = to.shutdown().await;
}

/// Lines that are read ahead of the relay.
const AHEAD: usize = 1;

/// Messages that wait to be written, on each side.
const WAITING: usize = 64;

/// Longest message of a client, in bytes.
const CLIENT_LINE_BYTES: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_taken_whole_and_bounded() {
        let mut text: &[u8] = b"one\n\ntwo\r\nrest";
        let mut lines = Vec::new();
        while let Some(one) = line(&mut text, 10).await.unwrap() {
            lines.push(String::from_utf8(one).unwrap());
        }
        assert_eq!(lines, ["one", "", "two\r"]);
        let mut long: &[u8] = b"12345678901\n";
        assert!(line(&mut long, 10).await.is_err());
        let mut endless: &[u8] = b"12345678901";
        assert!(line(&mut endless, 10).await.is_err());
    }
}
