"""The one exception by which fetching a data set reports what a user can mend."""


class FetchError(RuntimeError):
    """A data set could not be fetched, checked or arranged. The message says what was found and what to do next.

    The command line prints the message alone and ends with 1. Anything else that is raised is a defect of ours and
    keeps its traceback.
    """
