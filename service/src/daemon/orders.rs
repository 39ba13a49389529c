//! The daemon's end of the connection on which a session's launcher takes orders.

use std::{
    collections::HashMap,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};
use tracing::debug;

use super::Daemon;
use crate::control::{
    Answer, Carried, CarriedResult, Connection, LaunchOrder, Ordered, ProtocolError,
};

/// Where orders to one session's launcher are put.
#[derive(Debug, Default)]
pub struct Orders {
    line: Mutex<Option<mpsc::Sender<Post>>>,
}

/// An order on its way.
#[derive(Debug)]
struct Post {
    order: LaunchOrder,
    descriptors: Vec<OwnedFd>,
    answer: oneshot::Sender<Answered>,
}

type Answered = (CarriedResult, Vec<OwnedFd>);

impl Orders {
    /// Whether a launcher follows.
    pub fn followed(&self) -> bool {
        self.line().is_some()
    }

    /// Gives an order and waits until it is carried out; what came of it, with the descriptors
    /// that came beside the answer.
    ///
    /// # Errors
    /// In words: the launcher does not follow, is gone, said no, or was silent for
    /// [`PATIENCE`].
    pub async fn give(
        &self,
        order: LaunchOrder,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Vec<OwnedFd>, String> {
        match tokio::time::timeout(PATIENCE, self.post(order, descriptors)).await {
            Ok(Ok((CarriedResult::Done, descriptors))) => Ok(descriptors),
            Ok(Ok((CarriedResult::Failed { why }, _))) => Err(why),
            Ok(Err(why)) => Err(why),
            Err(_late) => Err("the session's launcher does not answer".into()),
        }
    }

    /// As [`Self::give`], for an order that is answered when something has ended: waits as long
    /// as the session lasts.
    ///
    /// # Errors
    /// In words: the launcher does not follow or is gone.
    pub async fn post(
        &self,
        order: LaunchOrder,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Answered, String> {
        let line = self
            .line()
            .ok_or("the session's launcher takes no orders (yet)")?;
        let (answer, answered) = oneshot::channel();
        let post = Post {
            order,
            descriptors,
            answer,
        };
        let gone = || "the session is over".to_owned();
        line.send(post).await.map_err(|_closed| gone())?;
        answered.await.map_err(|_closed| gone())
    }

    fn line(&self) -> Option<mpsc::Sender<Post>> {
        let line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        line.as_ref().filter(|line| !line.is_closed()).cloned()
    }

    /// Opens the line, once.
    fn open(&self) -> Option<mpsc::Receiver<Post>> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if line.is_some() {
            return None;
        }
        let (sender, receiver) = mpsc::channel(WAITING);
        *line = Some(sender);
        Some(receiver)
    }
}

/// Turns this connection into the line of orders of the session whose `token` it knows, until the
/// launcher hangs up or the session is over.
///
/// # Errors
/// [`ProtocolError`] when the connection breaks.
pub async fn follow(
    daemon: &Arc<Daemon>,
    connection: &mut Connection,
    session: &str,
    token: &str,
    first_process: u32,
) -> Result<(), ProtocolError> {
    let refused = |message: &str| Answer::Failed {
        message: message.into(),
        help: None,
    };
    let Some(live) = daemon.registry.by_token(session, token) else {
        return connection
            .answer(&refused("there is no such session to follow"))
            .await;
    };
    let Some(posts) = live.orders().open() else {
        return connection
            .answer(&refused("this session is followed already"))
            .await;
    };
    connection.answer(&Answer::Following).await?;
    live.stands(first_process);
    let mut over = live.watch();
    drop(live);
    tokio::select! {
        carried = carry(connection, posts) => carried,
        _over = over.wait_for(|state| state.is_over()) => Ok(()),
    }
}

/// Sends orders and matches answers to them by number. When it ends, whoever waits learns it.
async fn carry(
    connection: &mut Connection,
    mut posts: mpsc::Receiver<Post>,
) -> Result<(), ProtocolError> {
    let mut waiting: HashMap<u64, oneshot::Sender<Answered>> = HashMap::new();
    let mut id = 0;
    loop {
        tokio::select! {
            post = posts.recv() => {
                let Some(post) = post else { return Ok(()) };
                id += 1;
                waiting.insert(id, post.answer);
                let ordered = Ordered {
                    id,
                    descriptors: post.descriptors.len(),
                    order: post.order,
                };
                connection.order(&ordered, &post.descriptors).await?;
            }
            carried = connection.carried() => {
                let (Carried { id, result, .. }, descriptors) = carried?;
                match waiting.remove(&id) {
                    // Whoever asked may have stopped waiting.
                    Some(answer) => drop(answer.send((result, descriptors))),
                    None => debug!(id, "an answer to no order"),
                }
            }
        }
    }
}

/// How long an order may take that is answered at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// Orders that wait to be sent.
const WAITING: usize = 32;
