//! Basic and digest authentication (RFC 7616), as a server asks for it.

use http_auth::{PasswordClient, PasswordParams};

use super::{RtspError, message::Response};
use crate::ingest::Credentials;

/// What a server asked for last, and what we have.
pub(super) struct Auth {
    credentials: Option<Credentials>,
    client: Option<PasswordClient>,
}

impl Auth {
    pub(super) fn new(credentials: Option<Credentials>) -> Self {
        Self { credentials, client: None }
    }

    /// Takes a challenge (401): the strongest scheme that is offered.
    ///
    /// # Errors
    /// [`RtspError::Unauthorised`] if there is nothing to answer it with.
    pub(super) fn challenge(&mut self, response: &Response) -> Result<(), RtspError> {
        if self.credentials.is_none() {
            return Err(RtspError::Unauthorised);
        }
        let challenges =
            response.headers("WWW-Authenticate").fold(PasswordClient::builder(), |all, one| all.challenges(one));
        let client = challenges.build();
        self.client = Some(client.map_err(|error| RtspError::Protocol(format!("its challenge: {error}")))?);
        Ok(())
    }

    /// The `Authorization` of a request, once the server has asked for it.
    pub(super) fn header(&mut self, method: &str, uri: &str) -> Option<String> {
        let (client, credentials) = (self.client.as_mut()?, self.credentials.as_ref()?);
        let (username, password) = (credentials.user.reveal(), credentials.password.reveal());
        client.respond(&PasswordParams { username, password, uri, method, body: None }).ok()
    }
}
