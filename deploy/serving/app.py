"""The service's routes. Texts are bounded and counted; nothing but feedback is kept, and no text is logged."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import jinja2
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints
from pydantic import Field as Bounds

from deploy.pages.serving import STYLE
from deploy.serving.batching import TooBusy
from deploy.serving.feedback import FeedbackFile
from deploy.serving.limits import LONGEST_TEXT, MOST_TEXTS, RateLimit
from deploy.serving.served import Prediction, ServedModel

__all__ = ["serving_app"]

_HERE = Path(__file__).parent


def _is_unicode(text: str) -> str:
    """JSON can say half a character, which no tokenizer takes."""
    if any(0xD800 <= ord(sign) <= 0xDFFF for sign in text):
        raise ValueError("must be whole Unicode characters")
    return text


Text = Annotated[
    str, StringConstraints(min_length=1, max_length=LONGEST_TEXT, pattern=r"\S"), AfterValidator(_is_unicode)
]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class OneText(_Body):
    """A text."""

    text: Text


class ManyTexts(_Body):
    """Texts, at most 256."""

    texts: Annotated[list[Text], Bounds(min_length=1, max_length=MOST_TEXTS)]


class Feedback(_Body):
    """A text and the label that a person says is right."""

    text: Text
    label: str


class Predicted(BaseModel):
    """A label, its probability, and everyone's."""

    label: str
    confidence: float
    probabilities: dict[str, float]
    calibrated: bool


class ManyPredicted(BaseModel):
    """Predictions in the order of the texts."""

    predictions: list[Predicted]


class Word(BaseModel):
    """A word and what it added to the predicted label's lead, in logits; null beyond what the model reads."""

    text: str
    start: int
    end: int
    attribution: float | None


class Explained(Predicted):
    """A prediction and its words."""

    words: list[Word]


def serving_app(model: ServedModel, feedback: FeedbackFile, limit: RateLimit, token: str) -> FastAPI:
    """The application, not yet behind its token (see ``deploy.pages.access``)."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        model.batcher.start()
        yield
        await model.batcher.stop()

    app = FastAPI(
        title=f"Hanse: {model.name}",
        description=f"Labels: {', '.join(model.labels)}. Send the token as `Authorization: Bearer TOKEN`.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.add_exception_handler(TooBusy, _too_busy)
    app.add_exception_handler(RequestValidationError, _malformed)
    _add_page(app, model, token)
    _add_service(app, model, feedback, limit)
    return app


def _add_service(app: FastAPI, model: ServedModel, feedback: FeedbackFile, limit: RateLimit) -> None:
    def take(texts: int) -> None:
        if wait := limit.wait(texts):
            raise HTTPException(429, "too many texts a second", {"retry-after": str(math.ceil(wait))})

    def told(prediction: Prediction) -> Predicted:
        return Predicted(
            label=prediction.label,
            confidence=prediction.confidence,
            probabilities=prediction.probabilities,
            calibrated=model.calibrated,
        )

    @app.post("/predict")
    async def predict(body: OneText) -> Predicted:
        """Predict one text."""
        take(1)
        return told((await model.predict([body.text]))[0])

    @app.post("/predict/batch")
    async def predict_batch(body: ManyTexts) -> ManyPredicted:
        """Predict up to 256 texts."""
        take(len(body.texts))
        return ManyPredicted(predictions=[told(each) for each in await model.predict(body.texts)])

    @app.post("/explain")
    async def explain(body: OneText) -> Explained:
        """Predict one text and say which words moved the prediction (integrated gradients)."""
        take(8)  # as dear as so many predictions
        prediction, words = await model.explain(body.text)
        return Explained(**told(prediction).model_dump(), words=[Word(**asdict(word)) for word in words])

    @app.post("/feedback", status_code=201)
    async def tell(body: Feedback) -> dict[str, str]:
        """Keep a text with the label that a person says is right, in the local feedback file."""
        if body.label not in model.labels:
            raise HTTPException(422, f"label: must be one of {', '.join(model.labels)}")
        take(1)
        (prediction,) = await model.predict([body.text])
        feedback.add(body.text, body.label, prediction.label, prediction.confidence)
        return {"kept_in": feedback.path.name}


def _add_page(app: FastAPI, model: ServedModel, token: str) -> None:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("serve.html").render(model=model, token=token, longest=LONGEST_TEXT)
    files = {"serve.js": (_HERE / "static" / "serve.js", "text/javascript"), "style.css": (STYLE, "text/css")}

    @app.get("/", include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(page)

    @app.get("/static/{name}", include_in_schema=False)
    def static(name: str) -> Response:
        if name not in files:
            return Response("no such file\n", 404)
        path, kind = files[name]
        return FileResponse(path, media_type=kind)


def _too_busy(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 503, {"retry-after": "1"})


def _malformed(_: Request, error: Exception) -> JSONResponse:
    """What is wrong and where, without the text itself: it may be private."""
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    told = [{"where": ".".join(map(str, fault["loc"])), "what": fault["msg"]} for fault in faults[:20]]
    return JSONResponse({"detail": told}, 422)
