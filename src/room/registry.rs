//! Finds rooms by name, and makes them.
//!
//! A room that closes refuses commands from that moment; whoever asks for its name then gets a new
//! room, while the old one still ends its recordings. So a join never fails because it met a room
//! on its way out: see [`Registry::join`].

use std::{
    collections::{BTreeMap, VecDeque},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::task::TaskTracker;

use super::{
    RoomHandle,
    actor::{self, COMMAND_QUEUE, Setup},
    command::{SessionEvents, SessionId},
    error::{CreateError, JoinError, RecordError, RoomGone},
    event::{CloseReason, Happened},
    guests::{Address, Guests},
    id::{AccessToken, ResumeToken},
    model::{JoinRequest, Joined, Role, RoomSettings},
    policy::{self, RoomPolicy},
};
use crate::{
    media::{MediaEngine, RecordingSpec},
    recording::RecordingNotice,
};

/// Rooms of one name that may close under one join before it gives up; one is rare already.
const JOIN_ATTEMPTS: usize = 8;
/// Rooms of one name that one address may open with a PIN within [`OPENED_WINDOW`].
const MOST_OPENED: usize = 5;
/// And all addresses together.
const MOST_OPENED_BY_ALL: usize = 50;
/// As long as a wrong PIN counts at a room's door.
const OPENED_WINDOW: Duration = Duration::from_secs(30);
/// Openings remembered, of all names together.
const MOST_REMEMBERED: usize = 4_096;

/// All rooms of this server.
pub struct Registry {
    policy: Arc<RoomPolicy>,
    engine: Arc<dyn MediaEngine>,
    keeper: mpsc::Sender<RecordingNotice>,
    everywhere: OnceLock<mpsc::Sender<Happened>>,
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
    guests: Guests,
}

/// The rooms that guests lately opened with a PIN, oldest first.
///
/// A recording is shown to rooms of its room's name and PIN. Without this, whoever opens rooms of
/// that name with one PIN after the other tries them all as fast as he can, past the lock that a
/// standing room has on its door.
#[derive(Default)]
struct Openings(VecDeque<(Instant, String, Address)>);

impl Openings {
    fn note(&mut self, name: &str, from: Address, now: Instant) -> Result<(), CreateError> {
        while self.0.front().is_some_and(|(at, ..)| now >= *at + OPENED_WINDOW) {
            self.0.pop_front();
        }
        let of_that_name = self.0.iter().filter(|(_, known, _)| known == name);
        let oldest_of_many = |most: usize, only: Option<Address>| {
            let mut openings = of_that_name.clone().filter(|(.., address)| only.is_none_or(|only| only == *address));
            let last = openings.clone().nth(most - 1);
            last.and_then(|_| openings.next()).map(|(at, ..)| *at)
        };
        if let Some(oldest) =
            oldest_of_many(MOST_OPENED, Some(from)).or_else(|| oldest_of_many(MOST_OPENED_BY_ALL, None))
        {
            let left = (oldest + OPENED_WINDOW).saturating_duration_since(now);
            return Err(CreateError::PinLocked { wait_s: left.as_millis().div_ceil(1000) as u64 });
        }
        if self.0.len() == MOST_REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((now, name.to_owned(), from));
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
        Arc::new(Self {
            policy: Arc::new(policy),
            engine,
            keeper,
            everywhere: OnceLock::new(),
            rooms: Mutex::default(),
            tasks: TaskTracker::new(),
        })
    }

    /// Who may see others without their effects.
    pub fn clean_tracks_for(&self) -> Role {
        self.policy.clean_tracks_for
    }

    /// `listener` hears of what happens in all rooms that are made from now on; what it does not take at once is
    /// lost to it. There is one at most: a second is passed over.
    pub fn tell_of_all_rooms(&self, listener: mpsc::Sender<Happened>) {
        // The first stays.
        let _ = self.everywhere.set(listener);
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
    /// no longer than any other, and he makes no more than 60 at once and one a second, so that nobody fills the server.
    ///
    /// # Errors
    /// As [`CreateError`] says.
    pub fn create_for_guest(
        self: &Arc<Self>,
        name: &str,
        settings: RoomSettings,
        from: Address,
    ) -> Result<RoomHandle, CreateError> {
        policy::check_guest_linger(&settings, &self.policy)?;
        let mut rooms = self.lock();
        if rooms.find(name).is_some() {
            return Err(CreateError::Exists);
        }
        rooms.admit_guest(name, &settings, from)?;
        self.open(&mut rooms, name, settings)
    }

    /// The room of that name, made with default settings if there is none. To join, use
    /// [`Self::join`]: this one may close before the handle is used.
    ///
    /// # Errors
    /// As [`CreateError`] says, but never [`CreateError::Exists`].
    pub fn find_or_create(self: &Arc<Self>, name: &str) -> Result<RoomHandle, CreateError> {
        let mut rooms = self.lock();
        match rooms.find(name) {
            Some(handle) => Ok(handle),
            None => self.open(&mut rooms, name, RoomSettings::default()),
        }
    }

    fn find_or_create_for_guest(
        self: &Arc<Self>,
        name: &str,
        settings: RoomSettings,
        from: Address,
    ) -> Result<RoomHandle, CreateError> {
        let mut rooms = self.lock();
        if let Some(handle) = rooms.find(name) {
            return Ok(handle);
        }
        rooms.admit_guest(name, &settings, from)?;
        self.open(&mut rooms, name, settings)
    }

    /// Whether such a recording could be made here at all: asked before a room is made for it.
    ///
    /// # Errors
    /// [`RecordError::Setting`] or [`RecordError::Layout`].
    pub fn check_recording(&self, spec: &RecordingSpec) -> Result<(), RecordError> {
        policy::check_layout(spec.layout.as_ref(), self.engine.capabilities())?;
        policy::check_recording(spec, self.engine.capabilities())?;
        Ok(())
    }

    /// The room of that name.
    pub fn find(&self, name: &str) -> Option<RoomHandle> {
        self.lock().find(name)
    }

    /// The room that a participant's access token is for.
    pub fn find_by_access(&self, access: &AccessToken) -> Option<RoomHandle> {
        let number = access.room_number()?;
        let rooms = self.lock();
        let room = rooms.by_name.values().find(|entry| entry.number == number)?;
        Some(room.handle.clone()).filter(|handle| !handle.is_closed())
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
            let settings = RoomSettings { pin, ..RoomSettings::default() };
            let room = self.find_or_create_for_guest(name, settings, request.from)?;
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
        let number = rooms.next;
        rooms.next += 1;
        let (commands, receiver) = mpsc::channel(COMMAND_QUEUE);
        let handle = RoomHandle::new(commands);
        let setup = Setup {
            name: name.into(),
            number,
            settings,
            policy: self.policy.clone(),
            engine: self.engine.clone(),
            keeper: self.keeper.clone(),
            everywhere: self.everywhere.get().cloned(),
            handle: handle.clone(),
        };
        let listed = Listed { registry: Arc::downgrade(self), name: name.to_owned(), number };
        let (room, keeper) = (handle.clone(), self.keeper.clone());
        self.tasks.spawn(async move {
            let ran = AssertUnwindSafe(actor::run(setup, receiver)).catch_unwind().await;
            drop(listed);
            if ran.is_err() {
                // Nobody else knows that its recordings are over. The panic itself was logged.
                let _ = keeper.send(RecordingNotice::RoomFailed { room }).await;
            }
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
    /// Somebody from `from` may make a room; so many a minute.
    fn admit_guest(&mut self, name: &str, settings: &RoomSettings, from: Address) -> Result<(), CreateError> {
        let now = Instant::now();
        self.guests.note(from, now)?;
        if settings.pin.is_some() { self.opened.note(name, from, now) } else { Ok(()) }
    }

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
