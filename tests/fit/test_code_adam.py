import torch

from glico_augment.fit.code_adam import CodeAdam

BETAS = (0.7, 0.95)


def gradients(steps, rows=5, dim=3):
    return torch.randn(steps, rows, dim, generator=torch.Generator().manual_seed(0))


def torchs_adam(start, gradients, lr):
    parameter = torch.nn.Parameter(start.clone())
    optimizer = torch.optim.Adam([parameter], lr=lr, betas=BETAS)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach()


def test_rows_that_are_all_visited_move_as_by_torchs_adam():
    start = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    rows = start.clone()
    adam = CodeAdam(rows, BETAS)
    for gradient in gradients(7):
        adam.step(torch.arange(5), gradient, 0.1)
    torch.testing.assert_close(rows, torchs_adam(start, gradients(7), 0.1))


def test_a_row_visited_now_and_then_moves_as_if_it_were_alone():
    start = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    rows = start.clone()
    adam = CodeAdam(rows, BETAS)
    visited = {0: [], 3: [], 4: []}
    for step, gradient in enumerate(gradients(12)):
        chosen = [row for row in visited if step % (row + 1) == 0]
        adam.step(torch.tensor(chosen), gradient[chosen], 0.1)
        for row in chosen:
            visited[row].append(gradient[row])
    for row, seen in visited.items():
        torch.testing.assert_close(rows[row], torchs_adam(start[row], seen, 0.1))
    assert torch.equal(rows[[1, 2]], start[[1, 2]])
    assert adam.visits.flatten().tolist() == [12, 0, 0, 3, 3]


def test_it_goes_on_from_its_state_to_the_same_bits():
    def run(split):
        rows = torch.ones(5, 3)
        adam = CodeAdam(rows, BETAS)
        for step, gradient in enumerate(gradients(6)):
            if step == split:
                state = {name: value.clone() for name, value in adam.state().items()}
                adam = CodeAdam(rows, BETAS)
                for name, value in adam.state().items():
                    value.copy_(state[name])
            adam.step(torch.tensor([1, 4]), gradient[:2], 0.1)
        return rows

    assert torch.equal(run(3), run(-1))
