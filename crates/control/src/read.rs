//! Reading functions, versions, code and records.

use impuls_domain::{
    Alias, AsyncInvocation, Caller, CodeLayout, Function, FunctionId, Invocation, InvocationId, Qualifier,
    Revision, VersionNumber,
};
use impuls_store::{
    AsyncInvocationPage, FunctionPage, FunctionSnapshot, InvocationPage, StoreError, VersionEntry,
};

use crate::alias::find_alias;
use crate::control::{Control, authorise};
use crate::error::ControlError;
use crate::input::{
    CodeFile, FUNCTION_PAGE_LIMIT, FunctionList, FunctionListQuery, FunctionRef, INVOCATION_PAGE_LIMIT,
    VERSION_PAGE_LIMIT,
};

fn check_page(limit: u32, max: u32) -> Result<(), ControlError> {
    if (1..=max).contains(&limit) { Ok(()) } else { Err(ControlError::PageLimit { limit, max }) }
}

/// Says which functions are left out because this release cannot read them.
pub(crate) fn log_unreadable(unreadable: &[(FunctionId, StoreError)]) {
    for (function, error) in unreadable {
        let error = error as &dyn std::error::Error;
        tracing::error!(%function, error, "a stored function cannot be read; it is left out");
    }
}

impl Control {
    /// One function with its newest revision and its aliases.
    pub async fn get_function(
        &self,
        caller: &Caller,
        reference: &FunctionRef,
    ) -> Result<FunctionSnapshot, ControlError> {
        authorise(caller)?;
        self.find(reference).await
    }

    /// Functions of every scope, newest first: a page, or all of them.
    pub async fn list_functions(
        &self,
        caller: &Caller,
        query: FunctionListQuery,
    ) -> Result<FunctionList, ControlError> {
        authorise(caller)?;
        check_page(query.limit.unwrap_or(1), FUNCTION_PAGE_LIMIT)?;
        let (mut functions, mut before) = (Vec::new(), query.before);
        // One more than is shown tells whether there is a next page.
        let limit = query.limit.unwrap_or(FUNCTION_PAGE_LIMIT) + 1;
        loop {
            let page = FunctionPage { before, limit };
            let page = self.stores.functions.list_functions(page).await.map_err(ControlError::Store)?;
            log_unreadable(&page.unreadable);
            let is_full = page.count() >= limit as usize;
            before = page.last.filter(|_| is_full);
            functions.extend(page.functions);
            if !is_full || query.limit.is_some() {
                break;
            }
        }
        let shown = query.limit.map_or(usize::MAX, |limit| limit as usize);
        if functions.len() > shown {
            functions.truncate(shown);
            before = functions.last().map(|snapshot: &FunctionSnapshot| snapshot.function.id);
        }
        let total = match query.limit {
            Some(_) => self.stores.functions.count_functions().await.map_err(ControlError::Store)?,
            None => functions.len() as u64,
        };
        Ok(FunctionList { functions, next: before, total })
    }

    /// The source text of a function's newest revision; `None` if its code is an archive.
    pub async fn read_source(
        &self,
        caller: &Caller,
        snapshot: &FunctionSnapshot,
    ) -> Result<Option<String>, ControlError> {
        authorise(caller)?;
        match snapshot.latest.layout {
            CodeLayout::Zip => Ok(None),
            CodeLayout::SingleFile => {
                let bytes = self.artifacts.get(&snapshot.latest.artifact).await?;
                let text = String::from_utf8(bytes.into());
                text.map(Some).map_err(|_| ControlError::Damaged(snapshot.function.name.clone()))
            }
        }
    }

    /// The code that calls with this qualifier run, as it was handed in. An alias with several versions means
    /// the one with the greatest weight.
    pub async fn read_code(
        &self,
        caller: &Caller,
        reference: &FunctionRef,
        qualifier: &Qualifier,
    ) -> Result<CodeFile, ControlError> {
        authorise(caller)?;
        let snapshot = self.find(reference).await?;
        let (version, revision) = self.resolve(&snapshot, qualifier).await?;
        let bytes = self.artifacts.get(&revision.artifact).await?;
        let file_name = match revision.layout {
            CodeLayout::Zip => format!("{}.zip", snapshot.function.name),
            CodeLayout::SingleFile => self.source_file_name(&snapshot.function, &revision),
        };
        Ok(CodeFile { version, layout: revision.layout, file_name, digest: revision.artifact, bytes })
    }

    /// A page of a function's versions, newest first, with numbers below `before`; at most
    /// [`VERSION_PAGE_LIMIT`].
    pub async fn list_versions(
        &self,
        caller: &Caller,
        reference: &FunctionRef,
        before: Option<VersionNumber>,
        limit: u32,
    ) -> Result<Vec<VersionEntry>, ControlError> {
        authorise(caller)?;
        check_page(limit, VERSION_PAGE_LIMIT)?;
        let id = self.find(reference).await?.function.id;
        self.stores.versions.list_versions(id, before, limit).await.map_err(ControlError::Store)
    }

    /// One version.
    pub async fn get_version(
        &self,
        caller: &Caller,
        reference: &FunctionRef,
        number: VersionNumber,
    ) -> Result<VersionEntry, ControlError> {
        authorise(caller)?;
        let function = self.find(reference).await?.function;
        self.version(&function, number).await
    }

    /// A page of the records of a function's invocations, newest first; at most [`INVOCATION_PAGE_LIMIT`].
    pub async fn list_invocations(
        &self,
        caller: &Caller,
        reference: &FunctionRef,
        page: InvocationPage,
    ) -> Result<Vec<Invocation>, ControlError> {
        authorise(caller)?;
        check_page(page.limit, INVOCATION_PAGE_LIMIT)?;
        let id = self.find(reference).await?.function.id;
        self.stores.invocations.list_invocations(id, page).await.map_err(ControlError::Store)
    }

    /// One asynchronous invocation; [`ControlError::InvocationNotFound`] if there is none, or none any more.
    pub async fn get_async_invocation(
        &self,
        caller: &Caller,
        id: InvocationId,
    ) -> Result<AsyncInvocation, ControlError> {
        authorise(caller)?;
        let found = self.stores.queue.find_async_invocation(id).await.map_err(ControlError::Store)?;
        found.ok_or(ControlError::InvocationNotFound(id))
    }

    /// A page of asynchronous invocations, newest first; at most [`INVOCATION_PAGE_LIMIT`].
    pub async fn list_async_invocations(
        &self,
        caller: &Caller,
        page: AsyncInvocationPage,
    ) -> Result<Vec<AsyncInvocation>, ControlError> {
        authorise(caller)?;
        check_page(page.limit, INVOCATION_PAGE_LIMIT)?;
        self.stores.queue.list_async_invocations(page).await.map_err(ControlError::Store)
    }

    pub(crate) async fn version(
        &self,
        function: &Function,
        number: VersionNumber,
    ) -> Result<VersionEntry, ControlError> {
        let found =
            self.stores.versions.find_version(function.id, number).await.map_err(ControlError::Store)?;
        let missing = || ControlError::VersionNotFound { function: function.name.clone(), version: number };
        found.ok_or_else(missing)
    }

    pub(crate) async fn resolve(
        &self,
        snapshot: &FunctionSnapshot,
        qualifier: &Qualifier,
    ) -> Result<(VersionNumber, Revision), ControlError> {
        let number = match qualifier {
            Qualifier::Latest => return Ok((snapshot.function.latest_version, snapshot.latest.clone())),
            Qualifier::Version(number) => *number,
            Qualifier::Alias(name) => heaviest(find_alias(snapshot, name)?),
        };
        let entry = self.version(&snapshot.function, number).await?;
        Ok((entry.number, entry.revision))
    }

    fn source_file_name(&self, function: &Function, revision: &Revision) -> String {
        let names = self.rollout.source_file_names(revision);
        let path = names.into_iter().next().unwrap_or_else(|| function.name.to_string());
        path.rsplit('/').next().unwrap_or_default().to_owned()
    }
}

fn heaviest(alias: &Alias) -> VersionNumber {
    let heaviest = alias.targets().iter().max_by_key(|target| (target.weight, target.version));
    heaviest.map_or(VersionNumber::FIRST, |target| target.version)
}
