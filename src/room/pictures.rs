//! Pictures that people give to a room, for its effects and the logos of its layouts.

use std::sync::Arc;

use super::{actor::Room, command::Caller, error::PicturesError, id::PictureId, model::Role};
use crate::{
    effect::{Picture, find_picture, pictures_in},
    media::{LayoutError, layout::Logo},
};

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
        let is_logo = self.layout.logo.as_ref().is_some_and(|logo| logo.picture == *id);
        if is_logo || self.recordings.show_picture(id) {
            return Err(PicturesError::InUse);
        }
        self.pictures.remove(place);
        Ok(())
    }

    pub(super) fn list_pictures(&self, caller: &Caller) -> Result<Vec<Arc<Picture>>, PicturesError> {
        self.may_use_pictures(caller)?;
        Ok(self.pictures.clone())
    }

    /// A layout's logo is one of the room's pictures.
    pub(super) fn check_logo(&self, logo: Option<&Logo>) -> Result<(), LayoutError> {
        match logo.map(|logo| find_picture(logo.picture.as_str(), &self.pictures)) {
            None | Some(Some(_)) => Ok(()),
            Some(None) => {
                let problem = "`picture` is none of the room's; give it one with POST /api/rooms/{room}/pictures";
                Err(LayoutError::new("logo", problem))
            }
        }
    }

    fn may_use_pictures(&self, caller: &Caller) -> Result<(), PicturesError> {
        match self.role_of(caller).ok_or(PicturesError::NotInRoom)? {
            Role::Viewer => Err(PicturesError::NotAllowed),
            Role::Publisher | Role::Moderator => Ok(()),
        }
    }
}
