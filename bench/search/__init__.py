from router.evaluation.metrics import ndcg as ndcg
