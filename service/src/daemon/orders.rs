//! The daemon's end of the connection on which a session's launcher takes orders.

use std::{
    collections::HashMap,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::mpsc;
use tracing::debug;

use super::{Daemon, live::Stands};
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
    answer: mpsc::Sender<Answered>,
}

/// What came of an order, with the descriptors beside it.
pub type Answered = (CarriedResult, Vec<OwnedFd>);

impl Orders {
    /// Whether a launcher follows.
    pub fn followed(&self) -> bool {
        self.line().is_some()
    }

    /// Gives an order and waits until it is carried out; the descriptors that came beside the
    /// answer.
    ///
    /// # Errors
    /// In words: the launcher does not follow, is gone, said no, or was silent for
    /// [`PATIENCE`].
    pub async fn give(
        &self,
        order: LaunchOrder,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Answered, String> {
        let carried = async {
            let mut answers = self.post(order, descriptors).await?;
            answers.recv().await.ok_or_else(gone)
        };
        match tokio::time::timeout(PATIENCE, carried).await {
            Ok(Ok((CarriedResult::Failed { why }, _))) => Err(why),
            Ok(Ok(answered)) => Ok(answered),
            Ok(Err(why)) => Err(why),
            Err(_late) => Err(SILENT.into()),
        }
    }

    /// Gives an order and waits for what came of it, in full.
    ///
    /// # Errors
    /// In words: the launcher does not follow, is gone, or was silent for [`PATIENCE`].
    pub async fn carry(&self, order: LaunchOrder) -> Result<CarriedResult, String> {
        let carried = async {
            let mut answers = self.post(order, Vec::new()).await?;
            answers.recv().await.ok_or_else(gone)
        };
        match tokio::time::timeout(PATIENCE, carried).await {
            Ok(answered) => answered.map(|(result, _descriptors)| result),
            Err(_late) => Err(SILENT.into()),
        }
    }

    /// As [`Self::post`], where the line moves.
    ///
    /// # Errors
    /// As there, and when the order could not be given for [`PATIENCE`].
    pub async fn post_in_time(
        &self,
        order: LaunchOrder,
        descriptors: Vec<OwnedFd>,
    ) -> Result<mpsc::Receiver<Answered>, String> {
        let posted = tokio::time::timeout(PATIENCE, self.post(order, descriptors)).await;
        posted.unwrap_or_else(|_late| Err(SILENT.into()))
    }

    /// Gives an order that is answered more than once: the answers, until the session is over.
    ///
    /// # Errors
    /// In words: the launcher does not follow or is gone.
    pub async fn post(
        &self,
        order: LaunchOrder,
        descriptors: Vec<OwnedFd>,
    ) -> Result<mpsc::Receiver<Answered>, String> {
        let line = self
            .line()
            .ok_or("the session's launcher takes no orders (yet)")?;
        let (answer, answers) = mpsc::channel(ANSWERS);
        let post = Post {
            order,
            descriptors,
            answer,
        };
        line.send(post).await.map_err(|_closed| gone())?;
        Ok(answers)
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
    stands: Stands,
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
    // Before the command starts, which does on the answer: it may be over at once.
    live.stands(stands);
    connection.answer(&Answer::Following).await?;
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
    let mut waiting: HashMap<u64, mpsc::Sender<Answered>> = HashMap::new();
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
                let more = matches!(result, CarriedResult::Began);
                match waiting.remove(&id) {
                    Some(answer) => {
                        // Whoever asked may have stopped waiting. There is room for each answer.
                        let _unheard = answer.try_send((result, descriptors));
                        if more {
                            waiting.insert(id, answer);
                        }
                    }
                    None => debug!(id, "an answer to no order"),
                }
            }
        }
    }
}

fn gone() -> String {
    "the session is over".into()
}

/// The most answers to one order: it began, and it ended.
const ANSWERS: usize = 2;

/// How long an order may take that is answered at once.
const PATIENCE: Duration = Duration::from_secs(10);

const SILENT: &str = "the session's launcher does not answer";

/// Orders that wait to be sent.
const WAITING: usize = 32;
