//! Pictures that people give to a room, for its effects.

use std::sync::Arc;

use super::{actor::Room, command::Caller, error::PicturesError, id::PictureId, model::Role};
use crate::effect::{Picture, pictures_in};

/// A room keeps so many, of at most 4 MB each.
const MOST_PICTURES: usize = 16;

impl Room {
    pub(super) fn add_picture(&mut self, caller: &Caller, picture: Arc<Picture>) -> Result<(), PicturesError> {
        self.may_use_pictures(caller)?;
        if self.pictures.len() >= MOST_PICTURES {
            return Err(PicturesError::TooMany { most: MOST_PICTURES });
        }
        self.pictures.push(picture);
        Ok(())
    }

    pub(super) fn remove_picture(&mut self, caller: &Caller, id: &PictureId) -> Result<(), PicturesError> {
        self.may_use_pictures(caller)?;
        let place = self.pictures.iter().position(|picture| picture.id == *id).ok_or(PicturesError::Unknown)?;
        let chains = self.participants.iter().flat_map(|participant| participant.chains()).chain([&self.effects]);
        if chains.flat_map(|chain| pictures_in(chain)).any(|picture| picture.id == *id) {
            return Err(PicturesError::InUse);
        }
        self.pictures.remove(place);
        Ok(())
    }

    pub(super) fn list_pictures(&self, caller: &Caller) -> Result<Vec<Arc<Picture>>, PicturesError> {
        self.may_use_pictures(caller)?;
        Ok(self.pictures.clone())
    }

    fn may_use_pictures(&self, caller: &Caller) -> Result<(), PicturesError> {
        match self.role_of(caller).ok_or(PicturesError::NotInRoom)? {
            Role::Viewer => Err(PicturesError::NotAllowed),
            Role::Publisher | Role::Moderator => Ok(()),
        }
    }
}
