//! Names that point at versions.

use impuls_domain::{Alias, AliasName, Caller, Function};
use impuls_store::{FunctionSnapshot, StoreError};

use crate::control::{Control, Stores, authorise, now, to_the_end};
use crate::error::ControlError;
use crate::input::{DESCRIPTION_LIMIT, FunctionRef, NewAlias};
use crate::lock::FunctionGuard;

/// What happens to one alias.
enum Change {
    Put(Alias),
    Delete(AliasName),
}

impl Control {
    /// Makes an alias point at these versions, whether it existed or not. Repeatable.
    pub async fn put_alias(
        &self,
        caller: &Caller,
        reference: &FunctionRef,
        new: NewAlias,
    ) -> Result<Alias, ControlError> {
        authorise(caller)?;
        let function = self.find(reference).await?.function;
        let length = new.description.chars().count();
        if length > DESCRIPTION_LIMIT {
            return Err(ControlError::Description(length));
        }
        let alias = Alias::new(new.name, new.targets, new.description, now())?;
        for target in alias.targets() {
            self.version(&function, target.version).await?;
        }
        self.change_alias(function, Change::Put(alias.clone())).await?;
        Ok(alias)
    }

    /// The aliases of a function, by name.
    pub async fn list_aliases(
        &self,
        caller: &Caller,
        reference: &FunctionRef,
    ) -> Result<Vec<Alias>, ControlError> {
        authorise(caller)?;
        Ok(self.find(reference).await?.aliases)
    }

    /// One alias.
    pub async fn get_alias(
        &self,
        caller: &Caller,
        reference: &FunctionRef,
        name: &AliasName,
    ) -> Result<Alias, ControlError> {
        authorise(caller)?;
        find_alias(&self.find(reference).await?, name).cloned()
    }

    /// Removes an alias. [`ControlError::AliasNotFound`] if there was none.
    pub async fn delete_alias(
        &self,
        caller: &Caller,
        reference: &FunctionRef,
        name: AliasName,
    ) -> Result<(), ControlError> {
        authorise(caller)?;
        let function = self.find(reference).await?.function;
        self.change_alias(function, Change::Delete(name)).await
    }

    async fn change_alias(&self, function: Function, change: Change) -> Result<(), ControlError> {
        let guard = self.locks.lock(function.id).await;
        let (stores, rollout) = (self.stores.clone(), self.rollout.clone());
        to_the_end(async move {
            let snapshot = write(&stores, function, change, &guard).await?;
            rollout.activate(&snapshot).await;
            Ok(())
        })
        .await
    }
}

/// The alias of that name.
pub(crate) fn find_alias<'a>(
    snapshot: &'a FunctionSnapshot,
    name: &AliasName,
) -> Result<&'a Alias, ControlError> {
    let missing =
        || ControlError::AliasNotFound { function: snapshot.function.name.clone(), alias: name.clone() };
    snapshot.aliases.iter().find(|alias| alias.name() == name).ok_or_else(missing)
}

/// Writes the change and reads what the function has become.
async fn write(
    stores: &Stores,
    function: Function,
    change: Change,
    _guard: &FunctionGuard,
) -> Result<FunctionSnapshot, ControlError> {
    let gone = || ControlError::FunctionNotFound(function.name.to_string());
    let refusal = |error| match error {
        StoreError::NotFound => gone(),
        other => ControlError::Store(other),
    };
    match change {
        Change::Put(alias) => stores.versions.put_alias(function.id, &alias).await.map_err(refusal)?,
        Change::Delete(alias) => {
            if !stores.versions.delete_alias(function.id, &alias).await.map_err(refusal)? {
                return Err(ControlError::AliasNotFound { function: function.name, alias });
            }
        }
    }
    let key = impuls_store::FunctionKey::Id(function.id);
    let found = stores.functions.find_function(&key).await.map_err(ControlError::Store)?;
    found.ok_or_else(gone)
}
