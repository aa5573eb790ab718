//! Finds rooms by name, and makes them.
//!
//! A room that closes refuses commands from that moment; whoever asks for its name then gets a new
//! room, while the old one still ends its recordings. So a join never fails because it met a room
//! on its way out: see [`Registry::join`].

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{sync::mpsc, time::Instant};
use tokio_util::task::TaskTracker;

use super::{
    RoomHandle,
    actor::{self, COMMAND_QUEUE, Setup},
    command::{SessionEvents, SessionId},
    error::{CreateError, JoinError, RoomGone},
    event::CloseReason,
    id::ResumeToken,
    model::{JoinRequest, Joined, RoomSettings},
    policy::{self, RoomPolicy},
};
use crate::{media::MediaEngine, recording::RecordingNotice};

/// Rooms of one name that may close under one join before it gives up; one is rare already.
const JOIN_ATTEMPTS: usize = 8;
/// Rooms of one name that may be opened with a PIN within [`OPENED_WINDOW`].
const MOST_OPENED: usize = 5;
/// As long as a wrong PIN counts at a room's door.
const OPENED_WINDOW: Duration = Duration::from_secs(30);
/// Openings remembered, of all names together.
const MOST_REMEMBERED: usize = 4_096;

/// All rooms of this server.
pub struct Registry {
    policy: Arc<RoomPolicy>,
    engine: Arc<dyn MediaEngine>,
    keeper: mpsc::Sender<RecordingNotice>,
    rooms: Mutex<Rooms>,
    /// Every room's task, those that are closing too.
    tasks: TaskTracker,
}

#[derive(Default)]
struct Rooms {
    by_name: BTreeMap<String, Entry>,
    /// Tells a room from a later one of the same name.
    next: u64,
    shutting_down: bool,
    opened: Openings,
}

/// The rooms that were lately opened with a PIN, oldest first.
///
/// A recording is shown to rooms of its room's name and PIN. Without this, whoever opens rooms of
/// that name with one PIN after the other tries them all as fast as he can, past the lock that a
/// standing room has on its door.
#[derive(Default)]
struct Openings(VecDeque<(Instant, String)>);

impl Openings {
    fn note(&mut self, name: &str, now: Instant) -> Result<(), CreateError> {
        while self.0.front().is_some_and(|(at, _)| now >= *at + OPENED_WINDOW) {
            self.0.pop_front();
        }
        let mut of_that_name = self.0.iter().filter(|(_, known)| known == name).map(|(at, _)| *at);
        if let (Some(oldest), Some(_)) = (of_that_name.next(), of_that_name.nth(MOST_OPENED - 2)) {
            let left = (oldest + OPENED_WINDOW).saturating_duration_since(now);
            return Err(CreateError::PinLocked { wait_s: left.as_millis().div_ceil(1000) as u64 });
        }
        if self.0.len() == MOST_REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((now, name.to_owned()));
        Ok(())
    }
}

struct Entry {
    number: u64,
    handle: RoomHandle,
}

impl Registry {
    /// An empty one. Rooms are made with `engine`, tell `keeper` of their recordings, and keep to `policy`.
    pub fn new(policy: RoomPolicy, engine: Arc<dyn MediaEngine>, keeper: mpsc::Sender<RecordingNotice>) -> Arc<Self> {
        Arc::new(Self { policy: Arc::new(policy), engine, keeper, rooms: Mutex::default(), tasks: TaskTracker::new() })
    }

    /// Makes a room. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// As [`CreateError`] says.
    pub fn create(self: &Arc<Self>, name: &str, settings: RoomSettings) -> Result<RoomHandle, CreateError> {
        let mut rooms = self.lock();
        if rooms.find(name).is_some() {
            return Err(CreateError::Exists);
        }
        self.open(&mut rooms, name, settings)
    }

    /// As [`Self::create`], for whoever came through a door that is open to all: his room stays empty
    /// no longer than any other, so that nobody fills the server for a day by asking once.
    ///
    /// # Errors
    /// As [`CreateError`] says.
    pub fn create_for_guest(self: &Arc<Self>, name: &str, settings: RoomSettings) -> Result<RoomHandle, CreateError> {
        policy::check_guest_linger(&settings, &self.policy)?;
        self.create(name, settings)
    }

    /// The room of that name, made with default settings if there is none. To join, use
    /// [`Self::join`]: this one may close before the handle is used.
    ///
    /// # Errors
    /// As [`CreateError`] says, but never [`CreateError::Exists`].
    pub fn find_or_create(self: &Arc<Self>, name: &str) -> Result<RoomHandle, CreateError> {
        self.find_or_create_with(name, RoomSettings::default())
    }

    fn find_or_create_with(self: &Arc<Self>, name: &str, settings: RoomSettings) -> Result<RoomHandle, CreateError> {
        let mut rooms = self.lock();
        match rooms.find(name) {
            Some(handle) => Ok(handle),
            None => self.open(&mut rooms, name, settings),
        }
    }

    /// The room of that name.
    pub fn find(&self, name: &str) -> Option<RoomHandle> {
        self.lock().find(name)
    }

    /// All rooms, by name.
    pub fn list(&self) -> Vec<(String, RoomHandle)> {
        let rooms = self.lock();
        let open = rooms.by_name.iter().filter(|(_, entry)| !entry.handle.is_closed());
        open.map(|(name, entry)| (name.clone(), entry.handle.clone())).collect()
    }

    /// Comes into the room of that name, making it if there is none. A room that appears by a join
    /// with a PIN has that PIN, so that a closed room does not come back open to all.
    ///
    /// If the room closes meanwhile, the join goes to a fresh one.
    ///
    /// # Errors
    /// As [`JoinError`] says.
    pub async fn join(
        self: &Arc<Self>,
        name: &str,
        request: JoinRequest,
        session: SessionId,
        events: SessionEvents,
    ) -> Result<(RoomHandle, Joined), JoinError> {
        // A join that fails for its nickname must not leave an empty room behind.
        policy::check_nickname(&request.name, self.policy.max_name_chars).map_err(JoinError::Name)?;
        for _ in 0..JOIN_ATTEMPTS {
            let pin = request.pin.clone().filter(|pin| !pin.is_empty());
            let room = self.find_or_create_with(name, RoomSettings { pin, ..RoomSettings::default() })?;
            match room.join(request.clone(), session, events.clone()).await {
                Err(JoinError::Gone(RoomGone::Closed)) => {}
                answer => return answer.map(|joined| (room, joined)),
            }
        }
        Err(RoomGone::Closed.into())
    }

    /// Comes back into the room of that name.
    ///
    /// # Errors
    /// [`JoinError::ResumeUnknown`] also if the room is no more; else as [`JoinError`] says.
    pub async fn resume(
        &self,
        name: &str,
        token: ResumeToken,
        session: SessionId,
        events: SessionEvents,
    ) -> Result<(RoomHandle, Joined), JoinError> {
        let room = self.find(name).ok_or(JoinError::ResumeUnknown)?;
        match room.resume(token, session, events).await {
            Err(JoinError::Gone(RoomGone::Closed)) => Err(JoinError::ResumeUnknown),
            answer => answer.map(|joined| (room, joined)),
        }
    }

    /// Closes all rooms at once and waits for them, at most until `deadline`; new ones are refused.
    pub async fn shutdown(&self, deadline: Duration) {
        let handles: Vec<_> = {
            let mut rooms = self.lock();
            rooms.shutting_down = true;
            rooms.by_name.values().map(|entry| entry.handle.clone()).collect()
        };
        let close_all = async {
            let closing = handles.iter().map(|handle| handle.close(CloseReason::Shutdown));
            futures_util::future::join_all(closing).await;
            self.tasks.close();
            self.tasks.wait().await;
        };
        if tokio::time::timeout(deadline, close_all).await.is_err() {
            tracing::error!("{} rooms did not close within {deadline:?}", self.tasks.len());
        }
    }

    fn open(
        self: &Arc<Self>,
        rooms: &mut Rooms,
        name: &str,
        settings: RoomSettings,
    ) -> Result<RoomHandle, CreateError> {
        if rooms.shutting_down {
            return Err(CreateError::ShuttingDown);
        }
        policy::check_room_name(name).map_err(CreateError::Name)?;
        policy::check_settings(&settings, &self.policy, self.engine.capabilities())?;
        // Rooms that are closing count: they still hold media.
        let most = self.policy.max_rooms;
        if self.tasks.len() >= most {
            return Err(CreateError::TooManyRooms { most });
        }
        if settings.pin.is_some() {
            rooms.opened.note(name, Instant::now())?;
        }
        let (commands, receiver) = mpsc::channel(COMMAND_QUEUE);
        let handle = RoomHandle::new(commands);
        let setup = Setup {
            name: name.into(),
            settings,
            policy: self.policy.clone(),
            engine: self.engine.clone(),
            keeper: self.keeper.clone(),
            handle: handle.clone(),
        };
        let number = rooms.next;
        rooms.next += 1;
        let listed = Listed { registry: Arc::downgrade(self), name: name.to_owned(), number };
        self.tasks.spawn(async move {
            // Dropped however the task ends, by a panic too.
            let _listed = listed;
            actor::run(setup, receiver).await;
        });
        rooms.by_name.insert(name.to_owned(), Entry { number, handle: handle.clone() });
        Ok(handle)
    }

    fn lock(&self) -> MutexGuard<'_, Rooms> {
        // No code that can panic runs under the lock; the books are whole either way.
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rooms {
    fn find(&self, name: &str) -> Option<RoomHandle> {
        self.by_name.get(name).map(|entry| entry.handle.clone()).filter(|handle| !handle.is_closed())
    }
}

/// A room's place in the registry, given up when its task ends.
struct Listed {
    registry: Weak<Registry>,
    name: String,
    number: u64,
}

impl Drop for Listed {
    fn drop(&mut self) {
        let Some(registry) = self.registry.upgrade() else { return };
        let mut rooms = registry.lock();
        // A fresh room may stand under this name already.
        if rooms.by_name.get(&self.name).is_some_and(|entry| entry.number == self.number) {
            rooms.by_name.remove(&self.name);
        }
    }
}
