"""The canonical words: request, result, job, errors, events, money. They know no provider and touch nothing."""
