"""FastAPI: one picture as the body, several as a form's files; the work is in its thread pool.

uvicorn peer_fastapi:app --port PORT --workers WORKERS
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from work import work

app = FastAPI()
answer = work().answer


@app.post("/predict")
async def predict(request: Request, model: str) -> dict[str, Any]:
    """The answer for one picture."""
    return await run_in_threadpool(answer, [await request.body()], model)


@app.post("/predict-many")
def predict_many(file: list[UploadFile], model: str) -> dict[str, Any]:
    """The answer for several."""
    return answer([each.file.read() for each in file], model)
