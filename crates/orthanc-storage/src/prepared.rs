//! Statements that a connection has prepared: the server has analysed and planned them, and a file is one message.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Deref;

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row, Statement};

use crate::error::Error;

/// A parameter of a statement, with its type.
pub type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// What has been prepared on one connection, by its text.
#[derive(Default)]
pub struct Statements(RefCell<HashMap<String, Statement>>);

/// A connection, with its statements.
pub struct Db<'a> {
    client: &'a Client,
    statements: &'a Statements,
}

impl<'a> Db<'a> {
    /// Of a client and what has been prepared with it.
    pub fn new(client: &'a Client, statements: &'a Statements) -> Self {
        Self { client, statements }
    }

    /// A statement with parameters of these types. It is prepared at its first use, which takes an answer of the server: what is to be
    /// sent together is prepared before.
    pub async fn statement(&self, text: &str, types: &[Type]) -> Result<Statement, Error> {
        if let Some(statement) = self.statements.0.borrow().get(text) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare_typed(text, types).await?;
        self.statements.0.borrow_mut().insert(text.to_owned(), statement.clone());
        Ok(statement)
    }

    /// The rows of a statement.
    pub async fn rows(&self, text: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, Error> {
        let types: Vec<Type> = parameters.iter().map(|(_, kind)| kind.clone()).collect();
        let values: Vec<_> = parameters.iter().map(|(value, _)| *value).collect();
        let statement = self.statement(text, &types).await?;
        Ok(self.client.query(&statement, &values).await?)
    }
}

impl Deref for Db<'_> {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.client
    }
}
