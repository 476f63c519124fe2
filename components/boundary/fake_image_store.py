"""The images on one fake node."""

import hashlib

from attrs import define, field

from .cri import CriCode, CriError, Image
from .fake_images import Catalogue, ImageScript
from .image_reference import ImageReference, InvalidImageReference, parse


def reference(text: str) -> ImageReference:
    """The reference that a request names. Raises CriError INVALID_ARGUMENT."""
    try:
        return parse(text)
    except InvalidImageReference as error:
        raise CriError(
            CriCode.INVALID_ARGUMENT, f'failed to parse image reference "{text}": {error}'
        ) from None


def digest(ref: ImageReference) -> str:
    """The digest of an image that no registry has: made from its name, so that it is always the same."""
    return ref.digest or f"sha256:{hashlib.sha256(str(ref).encode()).hexdigest()}"


@define(eq=False)
class FakeImageStore:
    """Images by id, and the references that lead to them."""

    catalogue: Catalogue
    images: dict[str, Image] = field(factory=dict)
    references: dict[str, str] = field(factory=dict)

    def find(self, text: str) -> Image | None:
        """The image of a reference or an id, or None when it is not on the node."""
        if text in self.images:
            return self.images[text]
        image_id = self.references.get(str(reference(text)))
        return None if image_id is None else self.images[image_id]

    def script(self, text: str) -> ImageScript:
        """What the image does."""
        return self.catalogue.script(reference(text))

    def add(self, text: str) -> Image:
        """The image has been pulled."""
        ref = reference(text)
        found = digest(ref)
        image_id = f"sha256:{hashlib.sha256(found.encode()).hexdigest()}"
        image = Image(
            image_id,
            (f"{ref.repository}:{ref.tag}",) if ref.tag else (),
            (f"{ref.repository}@{found}",),
            self.catalogue.script(ref).size,
        )
        self.images[image_id] = image
        self.references[str(ref)] = image_id
        return image

    def remove(self, text: str) -> None:
        """Forget an image; idempotent."""
        image = self.find(text)
        if image is not None:
            del self.images[image.id]
            self.references = {name: i for name, i in self.references.items() if i != image.id}
