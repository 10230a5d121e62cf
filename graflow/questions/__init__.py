"""Questions that flows ask people, and other things that they wait for."""

from graflow.questions.asks import Ask, Moment, Signal
from graflow.questions.models import Question, QuestionState, Vote
from graflow.questions.outcomes import Approval, Winner

__all__ = ["Approval", "Ask", "Moment", "Question", "QuestionState", "Signal", "Vote", "Winner"]
