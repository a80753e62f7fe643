"""What can go wrong in sealing, one class a cause, each with a code fit for a peer's eyes.

A message may name sizes and parameters; it never holds a value of the training or of a key. The
`code` is what leaves a site: an enumerated word that tells a server nothing about patients.
"""


class SealingError(Exception):
    """Base of every refusal of the `crypto` room."""

    code = "sealing"


class CapacityError(SealingError):
    """A plan has no room for what is asked; says which number to change."""

    code = "capacity"


class SealError(SealingError):
    """A vector cannot be sealed: wrong length, shape, type, or not finite."""

    code = "unsealable-values"


class SpentError(SealingError):
    """What was prepared for one vector is asked to seal another."""

    code = "spent"


class FrameError(SealingError):
    """Bytes that are no well-formed sealed vector: magic, version, sizes or residues."""

    code = "malformed-frame"


class SchemeMismatchError(FrameError):
    """A sealed vector of another scheme or key mode."""

    code = "other-scheme"


class ParameterMismatchError(FrameError):
    """A sealed vector made under other public parameters."""

    code = "other-parameters"


class KeyMismatchError(SealingError):
    """A sealed vector or a key of another key ceremony."""

    code = "other-key"


class ContributionError(SealingError):
    """A sum of none, of more hospitals than planned, or of another number than the roster's."""

    code = "contribution-count"


class TagMismatchError(SealingError):
    """A sum whose tags do not prove the roster: something was added, dropped or replayed."""

    code = "tag-mismatch"


class OpeningRefusedError(SealingError):
    """An opening that would leak the key, such as a raw CKKS decryption handed to a server."""

    code = "opening-refused"


class IdentityError(SealingError):
    """A signing identity that cannot be used."""

    code = "identity"


class UnknownSenderError(IdentityError):
    """A header by somebody who is not of this training."""

    code = "unknown-sender"


class SignatureError(IdentityError):
    """A signature that does not verify."""

    code = "bad-signature"


class HeaderError(IdentityError):
    """A header that is malformed or of another training, round, attempt or parameter set."""

    code = "bad-header"


class StaleHeaderError(HeaderError):
    """A well signed header of another training, round or attempt: a replay."""

    code = "stale-header"


class PayloadMismatchError(HeaderError):
    """A payload that is not the one its header signs."""

    code = "payload-mismatch"


class RosterError(IdentityError):
    """A roster with doubled, missing or too few names."""

    code = "bad-roster"


class PreviousMismatchError(RosterError):
    """Hospitals opened different sums of the previous round: the server showed several."""

    code = "previous-mismatch"


class PinMismatchError(IdentityError):
    """An identity whose fingerprint is not the pinned one."""

    code = "pin-mismatch"


class CeremonyError(SealingError):
    """A key ceremony whose messages do not fit together."""

    code = "ceremony"


class EnvelopeError(SealingError):
    """An envelope that does not open: other key, other context, or changed bytes."""

    code = "envelope"


class KeysError(SealingError):
    """Bytes or operations that a `Keys` object refuses."""

    code = "keys"


class ShareError(SealingError):
    """A share of a key that is missing, does not open, or is none.

    Attributes:
        culprit: The dealer whose signature covers what is wrong; "" where it is the server's doing.
    """

    code = "share"

    def __init__(self, text: str, *, culprit: str = "") -> None:
        super().__init__(text)
        self.culprit = culprit


class PrecisionError(SealingError):
    """Arithmetic that could not be proved exact; nothing was computed."""

    code = "precision"
