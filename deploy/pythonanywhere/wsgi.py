"""The WSGI file of a PythonAnywhere web app: docs/pythonanywhere.md says where it goes.

Put your user's name for NAME. What is set here is set before the app is imported, and wins over
what the host has set.
"""

import os
import sys

GLIMPSE = "/home/NAME/glimpse"  # the clone; all paths are absolute, for the host starts elsewhere

os.environ.update(
    {
        "OMP_NUM_THREADS": "1",  # workers are forked: a pool of threads would not live on in them
        "GLIMPSE_ENGINE": "auto",  # onnxruntime, and torch for models without an ONNX file
        "GLIMPSE_PROXY": "real-ip",  # the host says a client's address in X-Real-IP alone
        # "GLIMPSE_FACE_MODEL": "emotions-balanced",
    }
)
sys.path.insert(0, GLIMPSE)

from app import create_app  # noqa: E402

application = create_app()
